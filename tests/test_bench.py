"""The benchmarks' own arithmetic: what they divide by what, and what they write."""

import json
import sys

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import bench_common  # noqa: E402
import bench_fit  # noqa: E402
import bench_flops  # noqa: E402
import bench_predict  # noqa: E402
import bench_reviews  # noqa: E402
import bench_sft  # noqa: E402
from bench_common import Clock, Enough, Row  # noqa: E402


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
        }
    )
    assert set(SPEEDS) == set(bench_fit.RECIPES)


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
    assert order == ["a", "b"] * 3
    assert rows["a"].tokens_per_second == 2.0 and rows["b"].rounds == [10.0, 30.0, 20.0]


def test_the_json(tmp_path, capsys):
    path = tmp_path / "bench.json"
    bench_common.report([row("fit", 1234.5, 2.5e9)], {"course": 10.0}, str(path), "A note.")
    written = json.loads(path.read_text())
    assert written.keys() == {"versions", "hardware", "rows", "ratios"}
    assert {"recipe", "tokens_per_second", "real_share", "peak_bytes"} <= written["rows"][0].keys()
    shown = capsys.readouterr().out
    assert "| fit | 1,234 | 0.500 | 2.5 | 10 |" in shown and "A note." in shown


def test_the_clock_counts_after_the_warm_up():
    import torch

    clock, mask = Clock(seconds=0, steps=2), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    with pytest.raises(Enough):
        for _ in range(100):
            clock.step(mask)
    assert clock.done == bench_common.WARM_UP_STEPS + 2
    assert (clock.tokens, clock.computed) == (2 * 4, 2 * 8)
    assert clock.figures()["real_share"] == 0.5


def test_ratios_of_the_other_benchmarks():
    rows = {
        "pipeline": row("pipeline", 100.0),
        "predict": row("predict", 250.0),
        "validate": row("validate", 300.0),
    }
    assert bench_predict.ratios(rows) == {"predict": 2.5, "validate": 3.0}
    assert bench_sft.ratios({"run_mlm": row("run_mlm", 200.0), "sft": row("sft", 300.0)}) == {"run_mlm": 1.5}


def test_generated_reviews_are_different_and_of_the_lengths_that_were_asked_for(tmp_path):
    bench_reviews.write_reviews(tmp_path / "reviews.csv", 500)
    texts, labels = bench_reviews.read(str(tmp_path / "reviews.csv"))
    assert len(set(texts)) == 500 and set(labels) == set(range(5))
    words = sorted(len(text.split()) for text in texts)
    assert 55 < words[250] < 95 and words[-1] > 250


def test_flops_are_those_of_an_unpadded_forward_and_backward_pass():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(**shape, vocab_size=50, attn_implementation="eager")
    model = BertModel(config, add_pooling_layer=False)
    lengths, counted = (7, 20), 0
    for length in lengths:
        with FlopCounterMode(display=False) as counter:
            model(torch.ones(1, length, dtype=torch.long)).last_hidden_state.sum().backward()
        counted += counter.get_total_flops()
    squares = sum(length**2 for length in lengths)
    assert bench_flops.training_flops(config.to_dict(), sum(lengths), squares) == counted


def test_utilisation_stands_in_the_table_where_it_was_measured():
    rows = [row("a", 100.0), row("b", 200.0)]
    assert "utilisation" not in bench_common.table(rows, {})
    rows[0].flop_utilisation, rows[1].flop_utilisation = 0.25, 0.5
    shown = bench_common.table(rows, {}).splitlines()
    assert shown[0].endswith("| FLOP utilisation |") and shown[2].endswith("| 0.25 |")
    assert shown[3].endswith("| 0.50 |")
