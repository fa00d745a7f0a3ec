#!/usr/bin/env bash
# From a fresh clone to a measured result: installs into .venv, trains on the embedded reviews, tests.
# Needs Python 3.11 or newer (PYTHON=/path/to/python3 chooses one) and a package registry, nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv
run .venv/bin/python -m lit_ft fit --config sample.yaml
run .venv/bin/python -m lit_ft test --config sample.yaml --ckpt_path best
