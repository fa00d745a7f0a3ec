#!/usr/bin/env bash
# Builds the wheel, installs it into a new environment and uses it from an empty folder: scripts/check_wheel.sh [--clean]
# Without --clean the libraries are borrowed from .venv, so that nothing is downloaded; that shows that the wheel has all
# that is ours. With --clean pip installs them too, as on a new machine: that needs a registry, about 3 GB of disk (torch
# with CUDA more) and some minutes.
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

[ $# = 0 ] || [ "$*" = --clean ] || { echo "lit_ft: error: expected no argument or --clean, found '$*'" >&2; exit 2; }
clean="${1:-}" lender=.venv/bin/python
[ -z "$clean" ] && [ ! -x "$lender" ] && setup_venv
[ -x "$lender" ] || lender="${PYTHON:-python3}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

mkdir "$folder/source" "$folder/empty" # a copy, so that no build/ is left here
cp -R pyproject.toml constraints.txt lit_ft configs "$folder/source"
run "$lender" -m venv "$folder/venv"
python="$folder/venv/bin/python"
if [ -n "$clean" ]; then
    run "$python" -m pip wheel --quiet --no-deps -w "$folder" "$folder/source"
    run "$python" -m pip install --quiet -c constraints.txt "$folder"/lit_ft-*.whl
    run "$python" -m pip check
else
    run "$lender" -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w "$folder" "$folder/source"
    run "$python" -m pip install --quiet --no-deps --no-index "$folder"/lit_ft-*.whl
    # Behind the new environment's own packages, and without its .pth files: an editable lit_ft is not seen there.
    "$lender" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$("$python" -c 'import sysconfig
print(sysconfig.get_path("purelib"))')/borrowed.pth"
fi

cd "$folder/empty"
export LIT_FT_CACHE="$folder/cache" HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
where="$("$python" -c 'import lit_ft; print(lit_ft.__file__)')"
case "$where" in "$folder/venv/"*) ;; *) echo "lit_ft: error: expected the wheel's lit_ft, found $where" >&2; exit 1 ;; esac
"$folder/venv/bin/lit-ft" --help >/dev/null
run "$folder/venv/bin/lit-ft" fit --config sample.yaml --name wheel --trainer.max_steps 2 --trainer.val_check_interval 2 \
    --trainer.limit_val_batches 2 --trainer.enable_progress_bar false
for file in config.yaml report.html model/README.md model/model.safetensors; do
    [ -s "runs/wheel/version_0/$file" ] || { echo "lit_ft: error: the wheel's fit left no $file" >&2; exit 1; }
done
echo "the wheel installs, and works in an empty folder"
