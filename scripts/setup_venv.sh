# Sourced by quickstart.sh and test.sh: goes to the repository's root and defines
#   run COMMAND...      prints a command, then runs it
#   setup_venv [EXTRA]  makes .venv with the pinned set; does nothing when that is already there
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME # another environment's packages must not stand in for the pinned ones

run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

setup_venv() {
    local extra="${1:-}" python="${PYTHON:-python3}" venv=.venv/bin/python state
    if ! "$venv" -m pip --version >/dev/null 2>&1; then # missing, or left half-made
        if ! command -v "$python" >/dev/null; then
            echo "lit_ft: error: no '$python' found; install Python 3.11 or newer, or set PYTHON=/path/to/python3" >&2
            exit 2
        fi
        check_version "$python"
        run "$python" -m venv --clear .venv
    fi
    check_version "$venv"
    # The stamp holds what was installed: a second start with the same files costs no pip run.
    state=$("$venv" -c 'import hashlib, os, sys
sums = [hashlib.sha256(open(name, "rb").read()).hexdigest() for name in ("constraints.txt", "pyproject.toml")]
print(os.getcwd(), sys.version.split()[0], *sums)')
    if [ "$(cat ".venv/installed${extra}" 2>/dev/null)" = "$state" ]; then
        return
    fi
    rm -f .venv/installed .venv/installedtest
    echo "installing the pinned set into .venv: a minute or two"
    # setuptools first and pinned too: an isolated build would fetch whichever version is newest.
    run "$venv" -m pip install --quiet -c constraints.txt setuptools
    run "$venv" -m pip install --quiet -c constraints.txt --no-build-isolation -e ".${extra:+[$extra]}"
    echo "$state" >".venv/installed${extra}"
    echo "$state" >.venv/installed # an extra only adds
}

check_version() {
    if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "lit_ft: error: expected Python 3.11 or newer, found $("$1" -V 2>&1) ($1); set PYTHON=/path/to/python3.11 and remove .venv" >&2
        exit 2
    fi
}
