#!/usr/bin/env bash
# Everything that must hold: ruff, mypy, all tests (those marked slow too). Those in a browser skip, saying so, where
# Debian's chromium and chromium-driver are not installed. Arguments go to pytest, e.g.
#   scripts/test.sh tests/test_data.py -k columns
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv test
run .venv/bin/python -m ruff check .
run .venv/bin/python -m mypy
run .venv/bin/python -m pytest "$@"
