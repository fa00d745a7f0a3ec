"""The benchmarks' own arithmetic: what they divide by what, and what they write."""

import json
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import bench_clock  # noqa: E402
import bench_common  # noqa: E402
import bench_fit  # noqa: E402
import bench_flops  # noqa: E402
import bench_predict  # noqa: E402
import bench_reviews  # noqa: E402
import bench_sft  # noqa: E402
from bench_clock import Clock, Enough  # noqa: E402
from bench_common import Row  # noqa: E402


def row(recipe: str, speed: float, peak: float = 1e9) -> Row:
    return Row(recipe, speed, 0.5, peak, 10.0, [speed])


SPEEDS = {
    "course": 100.0,
    "hf default": 80.0,
    "hf best, bf16": 200.0,
    "hf best, fp32": 500.0,
    "fit": 1_000.0,
    "fit as shipped": 1_500.0,
    "bare": 1_250.0,
}


def test_ratios():
    rows = {recipe: row(recipe, speed) for recipe, speed in SPEEDS.items()}
    rows["fit"].peak_bytes, rows["hf best, fp32"].peak_bytes = 3e9, 6e9
    assert bench_fit.ratios(rows) == pytest.approx(
        {
            "course": 10.0,
            "course_as_shipped": 15.0,
            "hf_default": 12.5,
            "hf_best": 2.0,  # over the faster of its precisions
            "peak_memory": 0.5,
            "overhead": 0.2,
            "real_share": 0.5,
        }
    )
    assert set(SPEEDS) == set(bench_fit.RECIPES) - {bench_fit.ON_A_GPU}
    assert bench_fit.ASKED.keys() == bench_fit.ratios(rows).keys()


def test_medians_of_interleaved_rounds(capsys):
    speeds = iter([1.0, 10.0, 3.0, 30.0, 2.0, 20.0])
    order: list[str] = []

    def measure(recipe: str) -> dict[str, float]:
        order.append(recipe)
        figures = {
            "real_share": 0.5,
            "peak_bytes": 1.0,
            "page_faults_per_second": 0.0,
            "squares_per_second": 0.0,
        }
        return {"tokens_per_second": next(speeds), **figures}

    rows = bench_common.interleave(["a", "b"], 3, measure)
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["round 1 of 3: a ...", "round 1 of 3: a 1 tokens/s (0 s)"]
    assert order == ["a", "b"] * 3
    assert rows["a"].tokens_per_second == 2.0 and rows["b"].rounds == [10.0, 30.0, 20.0]


def test_the_json(tmp_path, capsys):
    path = tmp_path / "bench.json"
    asked = {"course": "at least 10"}
    bench_common.report([row("fit", 1234.5, 2.5e9)], {"course": 11.0}, asked, str(path), "A note.")
    written = json.loads(path.read_text())
    assert {"versions", "hardware", "rows", "ratios"} <= written.keys()
    assert {"recipe", "tokens_per_second", "real_share", "peak_bytes"} <= written["rows"][0].keys()
    shown = capsys.readouterr().out
    assert "| fit | 1,234 | 0.500 | 2.5 | 10 |" in shown and "A note." in shown
    assert "| course | 11.00 | at least 10 |" in shown


def test_the_clock_counts_after_the_warm_up():
    import torch

    clock, mask = Clock(seconds=0, steps=2), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    with pytest.raises(Enough):
        for _ in range(100):
            clock.step(mask)
    assert clock.done == bench_clock.WARM_UP_STEPS + 2
    assert (clock.tokens, clock.computed) == (2 * 4, 2 * 8)
    assert clock.figures()["real_share"] == 0.5


def test_the_clock_counts_what_a_step_says_that_it_computed():
    import torch

    clock = Clock(steps=9)
    for _ in range(7):
        clock.step(torch.ones(2, 3), 10)
    assert clock.figures()["real_share"] == 0.6


def test_the_clock_counts_mean_texts_where_it_is_told_them():
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


def test_a_run_that_ends_while_it_warms_up_has_no_figures():
    with pytest.raises(SystemExit, match="ended by itself after 0 steps"):
        Clock().figures()


def test_ratios_of_the_other_benchmarks():
    rows = {
        "pipeline": row("pipeline", 100.0),
        "predict": row("predict", 250.0),
        "validate": row("validate", 300.0),
    }
    assert bench_predict.ratios(rows) == {"predict": 2.5, "validate": 3.0}
    assert bench_sft.ratios({"run_mlm": row("run_mlm", 200.0), "sft": row("sft", 300.0)}) == {"run_mlm": 1.5}
    assert bench_predict.ASKED.keys() == {"predict", "validate"} and bench_sft.ASKED.keys() == {"run_mlm"}


def test_generated_reviews_are_different_and_of_the_lengths_that_were_asked_for(tmp_path):
    bench_reviews.write_reviews(tmp_path / "reviews.csv", 500)
    texts, labels = bench_reviews.read(str(tmp_path / "reviews.csv"))
    assert len(set(texts)) == 500 and set(labels) == set(range(5))
    words = sorted(len(text.split()) for text in texts)
    assert 55 < words[250] < 95 and words[-1] > 250


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
    assert bench_flops.forward_flops(config.to_dict(), sum(lengths), squares) == forward
    assert bench_flops.training_flops(config.to_dict(), sum(lengths), squares) == both


def test_utilisation_stands_in_the_table_where_it_was_measured():
    rows = [row("a", 100.0), row("b", 200.0)]
    assert "utilisation" not in bench_common.table(rows, {}, {})
    rows[0].flop_utilisation, rows[1].flop_utilisation = 0.25, 0.5
    shown = bench_common.table(rows, {}, {}).splitlines()
    assert shown[0].endswith("| FLOP utilisation |") and shown[2].endswith("| 0.25 |")
    assert shown[3].endswith("| 0.50 |")
