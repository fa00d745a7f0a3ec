"""What the benchmarks start, with which settings and environment, and what they refuse."""

import argparse
import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import bench_common  # noqa: E402
import bench_data  # noqa: E402
import bench_fit  # noqa: E402
import bench_predict  # noqa: E402
import bench_sft  # noqa: E402

OURS = [(bench_fit, recipe) for recipe in bench_fit.OURS]
OURS += [(bench_sft, "sft"), (bench_predict, "predict"), (bench_predict, "validate")]
PEERS = [
    (bench_fit, "course"),
    (bench_fit, "hf default"),
    (bench_sft, "run_mlm"),
    (bench_predict, "pipeline"),
]


@pytest.mark.parametrize(("script", "recipe"), OURS + PEERS)
def test_ours_alone_run_with_our_environment(script, recipe, monkeypatch):
    set_for: list[str] = []
    monkeypatch.setattr(bench_common, "set_own_environment", lambda: set_for.append(recipe))
    monkeypatch.setattr(bench_common, "measure", lambda run, clock: set_for.append("measured"))
    given = {"token_budget": None, "batch_size": None, "compile": None}
    script.child(argparse.Namespace(child=recipe, seconds=1, steps=1, **given))
    assert set_for == ([recipe] if (script, recipe) in OURS else []) + ["measured"]


def test_our_environment_is_there_before_torch_is():
    code = "import os, sys, bench_fit, bench_sft, bench_predict, bench_data; from bench_common import *; "
    code += "set_own_environment(); print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "scripts")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"


def test_a_failing_command_fails_its_process(capfd):
    with pytest.raises(SystemExit, match="2"):
        bench_common.run_ours(["fti"])


def test_a_failing_recipe_is_told_with_its_last_lines(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.stderr.write('lit_ft: error: why'); sys.exit(2)")
    with pytest.raises(SystemExit, match="(?s)fit failed:.*lit_ft: error: why"):
        bench_common.run_child(str(script), "fit", [])


def test_fit_as_shipped_changes_paths_and_the_cap_only():
    given = {"token_budget": 4096, "batch_size": 32, "compile": False}
    options = argparse.Namespace(train_path="train.csv", pretrained="encoder", **given)
    shipped, fit = (bench_fit.fit_args(options, recipe) for recipe in ("fit as shipped", "fit"))
    paths = ["--data.train_path", "train.csv", "--model.pretrained", "encoder"]
    assert shipped == ["--config", "yelp_local.yaml", *paths, "--data.max_tokens", "512"]
    assert fit[: len(shipped)] == shipped
    budget = ["--data.token_budget", "4096", "--data.batch_size", "32"]
    dropouts = ["--model.attention_dropout", "null", "--model.hidden_dropout", "null"]
    assert fit[len(shipped) :] == budget + dropouts
    options.compile = True
    compiled = bench_fit.fit_args(options, bench_fit.ON_A_GPU)
    unpadded = ["--model.compile", "true", "--data.padding", "none"]
    assert compiled[len(shipped) :] == budget + unpadded + ["--model.attention_dropout", "0", *dropouts[2:]]


@pytest.mark.parametrize(("on_a_gpu", "found"), [(False, (4096, 32, False)), (True, (65_536, 1_024, True))])
def test_a_gpu_gets_a_larger_budget(on_a_gpu, found, monkeypatch):
    monkeypatch.setattr(bench_fit, "on_a_gpu", lambda: on_a_gpu)
    options = argparse.Namespace(token_budget=None, batch_size=None, compile=None)
    bench_fit.set_budget(options)
    assert (options.token_budget, options.batch_size, options.compile) == found
    options = argparse.Namespace(token_budget=600, batch_size=7, compile=False)
    bench_fit.set_budget(options)
    assert (options.token_budget, options.batch_size, options.compile) == (600, 7, False)


@pytest.mark.parametrize(
    ("script", "args", "told"),
    [
        (bench_fit, ["--rounds", "0"], "--rounds of at least 1, found 0"),
        (bench_sft, ["--seconds", "-1"], "--seconds of at least 0, found -1.0"),
        (bench_predict, ["--rows", "0"], "--rows of at least 100, found 0"),
        (bench_data, ["--rows", "6500", "0"], "--rows of at least 100, found 0"),
        (bench_data, ["--model.pretrained", "bert-base-cased"], "as a local model folder"),
        (bench_fit, ["--model.pretrained", "bert-base-cased"], "found 'bert-base-cased'"),
        (bench_sft, ["--data.train_path", "lacks.csv"], "as a csv file, found 'lacks.csv'"),
        (bench_predict, ["--data.train_path", "names.csv"], "found no label: ['text', 'stars']"),
    ],
)
def test_what_cannot_be_measured_is_one_line(script, args, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "names.csv").write_text("text,stars\ngood,5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.__name__, *args])
    with pytest.raises(SystemExit) as ended:
        script.main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and told in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_workplace_holds_the_caches_and_gives_the_environment_back():
    before = dict(os.environ)
    with bench_common.workplace() as folder:
        for name in ("LIT_FT_CACHE", "HF_DATASETS_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TMPDIR"):
            assert os.environ[name].startswith(str(folder))
    assert dict(os.environ) == before and not folder.exists()


@pytest.mark.slow
def test_a_benchmark_runs(tmp_path):
    path = tmp_path / "sft.json"
    call = [sys.executable, str(REPOSITORY / "scripts/bench_sft.py"), "--quick", "--json", str(path)]
    (tmp_path / "left").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "left")}
    done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert {"versions", "hardware", "rows", "ratios"} <= written.keys()
    assert {one["recipe"] for one in written["rows"]} == {"run_mlm", "sft"}
    for one in written["rows"]:
        assert min(one[key] for key in ("tokens_per_second", "real_share", "peak_bytes")) > 0
    assert written["ratios"].keys() == {"run_mlm"} and "indicative only" in done.stdout
    assert not list((tmp_path / "left").iterdir()), "it cleans up"
