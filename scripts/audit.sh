#!/usr/bin/env bash
# Asks PyPI's vulnerability service about every pin of constraints.txt: scripts/audit.sh [--ignore-vuln ID ...]
# Needs the network: a registry for pip-audit itself, and pypi.org (a mirror knows no vulnerabilities). If it cannot
# ask, it says so and exits 0; a known vulnerability exits 1. PIP_AUDIT=/path/to/pip-audit takes one that is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

skip() {
    echo "audit: skipped, $1"
    exit 0
}

audit="${PIP_AUDIT:-}"
if [ -z "$audit" ]; then # an environment of its own, thrown away: it must not change what is audited
    "${PYTHON:-python3}" -m venv "$folder/venv" || skip "no environment can be made for pip-audit"
    timeout 120 "$folder/venv/bin/pip" install --quiet --retries 0 --timeout 10 pip-audit==2.10.1 >/dev/null 2>&1 ||
        skip "no registry gives pip-audit (run it where pypi.org can be reached)"
    audit="$folder/venv/bin/pip-audit"
fi
ask() { # FILE [FLAGS]: exit code 0 nothing known, 1 vulnerabilities found or no answer
    timeout 300 "$audit" --no-deps --disable-pip --progress-spinner off --timeout 10 --cache-dir "$folder/cache" -r "$@" 2>&1
}

# A mirror that knows no vulnerabilities makes pip-audit 2.10 say "No known vulnerabilities found", with exit code 0. So
# first a version that has one.
echo "jinja2==3.1.2" >"$folder/known.txt"
answer="$(ask "$folder/known.txt" || true)"
grep -qE "CVE-|GHSA-|PYSEC-" <<<"$answer" ||
    skip "no vulnerability service answers (run it where pypi.org can be reached)"
grep -E '^[A-Za-z0-9]' constraints.txt >"$folder/pins.txt"
echo "audit: $(wc -l <"$folder/pins.txt" | tr -d ' ') pins of constraints.txt"
ask "$folder/pins.txt" "$@"
