"""The benchmarks: their clock, how they count FLOPs, what they refuse, and that what they import exists."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BENCH = REPOSITORY / "scripts/bench"
sys.path.insert(0, str(BENCH))

import check  # noqa: E402
import clock as bench_clock  # noqa: E402
import data  # noqa: E402
import fit  # noqa: E402
import flops  # noqa: E402
import predict  # noqa: E402
import reviews  # noqa: E402
import sft  # noqa: E402
from clock import Clock, Enough  # noqa: E402


def test_the_clock_counts_after_the_warm_up():
    import torch

    clock, mask = Clock(seconds=0, steps=2), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    with pytest.raises(Enough):
        for _ in range(100):
            clock.step(mask)
    assert clock.done == bench_clock.WARM_UP_STEPS + 2
    assert (clock.tokens, clock.computed) == (2 * 4, 2 * 8)
    assert clock.figures()["real_share"] == 0.5


def test_the_clock_takes_the_computed_tokens_of_a_step():
    import torch

    clock = Clock(steps=9)
    for _ in range(7):
        clock.step(torch.ones(2, 3), 10)
    assert clock.figures()["real_share"] == 0.6


def test_the_clock_takes_the_mean_row_of_a_file():
    import torch

    clock = Clock(seconds=0, steps=3, warm_up=1, mean_row=(2.5, 7.0))
    with pytest.raises(Enough):
        for _ in range(100):
            clock.step(torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]))
    assert (clock.tokens, clock.squares, clock.computed) == (3 * 2 * 2.5, 3 * 2 * 7.0, 3 * 8)


def test_the_clock_stops_with_the_last_step(monkeypatch):
    import torch

    now, faults = iter([10.0, 14.0]), iter([700, 720])
    clock = Clock(warm_up=1)
    monkeypatch.setattr(bench_clock.time, "perf_counter", lambda: next(now, 1e9))
    monkeypatch.setattr(bench_clock, "page_faults", lambda: next(faults, 10**6))
    for _ in range(2):
        clock.step(torch.ones(1, 8))
    assert clock.figures()["tokens_per_second"] == 2.0  # 8 in 4 seconds, whatever came later
    assert clock.figures()["page_faults_per_second"] == 5.0
    assert clock.figures()["squares_per_second"] == 16.0


def test_a_run_that_ends_during_the_warm_up_has_no_figures():
    with pytest.raises(SystemExit, match="ended by itself after 0 steps"):
        Clock().figures()


def test_flops_are_those_of_unpadded_passes():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(**shape, vocab_size=50, attn_implementation="eager")
    model = BertModel(config, add_pooling_layer=False)
    lengths, forward, both = (7, 20), 0, 0
    for length in lengths:
        with FlopCounterMode(display=False) as counter:
            loss = model(torch.ones(1, length, dtype=torch.long)).last_hidden_state.sum()
            forward += counter.get_total_flops()
            loss.backward()
        both += counter.get_total_flops()
    squares = sum(length**2 for length in lengths)
    assert flops.forward_flops(config.to_dict(), sum(lengths), squares) == forward
    assert flops.training_flops(config.to_dict(), sum(lengths), squares) == both


def test_generated_reviews_differ_and_have_the_lengths_of_yelp(tmp_path):
    reviews.write_reviews(tmp_path / "reviews.csv", 500)
    texts, labels = reviews.read(str(tmp_path / "reviews.csv"))
    assert len(set(texts)) == 500 and set(labels) == set(range(5))
    words = sorted(len(text.split()) for text in texts)
    assert 55 < words[250] < 95 and words[-1] > 250


def run(script, args, monkeypatch) -> object:
    """The exit code of a script's `main` with these arguments."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *args])
    with pytest.raises(SystemExit) as ended:
        script.main()
    return ended.value.code


@pytest.mark.parametrize("script", [check, data, fit, predict, sft])
def test_help_names_the_flags(script, monkeypatch, capsys):
    assert run(script, ["--help"], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "--rows" in shown or "--rounds" in shown


@pytest.mark.parametrize(
    ("script", "args", "told"),
    [
        (fit, ["--rounds", "0"], "--rounds of at least 1, found 0"),
        (sft, ["--seconds", "-1"], "--seconds of at least 0, found -1.0"),
        (predict, ["--rows", "0"], "--rows of at least 100, found 0"),
        (data, ["--rows", "6500", "0"], "--rows of at least 100, found 0"),
        (data, ["--model.pretrained", "bert-base-cased"], "as a local model folder"),
        (fit, ["--model.pretrained", "bert-base-cased"], "found 'bert-base-cased'"),
        (sft, ["--data.train_path", "lacks.csv"], "as a csv file, found 'lacks.csv'"),
        (predict, ["--data.train_path", "names.csv"], "found no label: ['text', 'stars']"),
    ],
)
def test_what_cannot_be_measured_is_one_line(script, args, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "names.csv").write_text("text,stars\ngood,5\n")
    monkeypatch.chdir(tmp_path)
    assert run(script, args, monkeypatch) == 2
    err = capsys.readouterr().err
    assert told in err and err.startswith("error: ") and err.count("\n") == 1


def test_our_environment_is_set_before_torch_is_imported():
    code = "import os, sys, fit, sft, predict, data; from common import set_own_environment; "
    code += "set_own_environment(); print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(BENCH)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"


def test_what_the_scripts_import_from_the_package_exists():
    """No benchmark runs in the suite, so a moved name would not be noticed."""
    asked: set[tuple[str, str]] = set()
    for path in REPOSITORY.glob("scripts/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lit_ft":
                asked |= {(str(node.module), alias.name) for alias in node.names}
    assert ("lit_ft.machine", "automatic_precision") in asked
    for module, name in sorted(asked):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_no_script_hides_a_module_of_python():
    assert not {path.stem for path in BENCH.glob("*.py")} & sys.stdlib_module_names
