#!/usr/bin/env bash
# Everything that must hold: ruff, mypy, all tests (those marked slow too). Those in a browser are skipped, and say so, if
# Debian's chromium and chromium-driver are not installed. All tests run in two processes, file by file. Arguments go
# to pytest instead, for example
#   scripts/test.sh tests/test_data.py -k columns
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv test
run .venv/bin/python -m ruff check .
[ $# -gt 0 ] || set -- -n 2 --dist loadfile --no-loadscope-reorder # three took longer on two cores
typed=$(mktemp)
.venv/bin/python -m mypy >"$typed" 2>&1 & # beside the tests: it reads torch's types for half a minute
mypy=$!
trap 'kill "$mypy" 2>/dev/null || true; rm -f "$typed"' EXIT
run .venv/bin/python -m pytest "$@"
echo "+ .venv/bin/python -m mypy"
wait "$mypy" || { cat "$typed"; exit 1; }
cat "$typed"
