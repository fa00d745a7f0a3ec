"""The words that a masked LM gained, counted by hand, and by a real training; exact on resume."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mlm_tiny import make_trainer, word_tokenizer
from transformers import TrainerState

from lit_ft.masked_lm.gains import LEAST_MASKED, TokenLosses, WordLosses, words_gained
from lit_ft.masked_lm.masking import IGNORED


def evaluated(words: WordLosses, step: int, losses: dict[int, list[float]], best: int | None = None) -> None:
    """Close an evaluation in which each token had these losses."""
    labels = [i for i, own in losses.items() for _ in own]
    values = [loss for own in losses.values() for loss in own]
    words.begin()
    words.add(torch.tensor([[*labels, IGNORED]]), torch.tensor([[*values, 99.0]]))
    words.on_evaluate(None, TrainerState(global_step=step, best_global_step=best), None)


def test_words_are_ranked_by_the_fall_of_their_mean_loss():
    tokenizer = word_tokenizer()
    great, movie, plot, piece, comma, rare = (
        tokenizer.convert_tokens_to_ids(token) for token in ("great", "movie", "plot", "##s", ",", "fine")
    )
    words = WordLosses(len(tokenizer))
    before = {great: [3.0] * 6, movie: [4.0, 6.0] * 3, plot: [1.0] * 5, piece: [9.0] * 5, comma: [9.0] * 5}
    after = {great: [1.0] * 6, movie: [1.0] * 6, plot: [2.0] * 5, piece: [0.0] * 5, comma: [0.0] * 5}
    few = LEAST_MASKED - 1
    evaluated(words, 0, {**before, rare: [9.0] * few})
    evaluated(words, 20, {**after, rare: [0.0] * few})
    found = words_gained(words.evaluations, 20, tokenizer)
    assert (found["first"], found["last"]) == (0, 20)
    # `plot` lost; `##s` is a piece, a comma no word, `fine` masked too rarely.
    assert [(entry["word"], entry["masked"]) for entry in found["words"]] == [("movie", 6), ("great", 6)]
    shares = [entry[when] for entry in found["words"] for when in ("before", "after")]
    assert shares == pytest.approx([math.exp(-5), math.exp(-1), math.exp(-3), math.exp(-1)])
    assert words_gained(words.evaluations[:1], 0, tokenizer) == {}  # nothing to compare with
    assert words.evaluations[0].masked == 31
    assert words.evaluations[1].spread == pytest.approx(np.std([1.0] * 12 + [2.0] * 5 + [0.0] * 14))


def test_the_first_the_best_and_the_newest_evaluation_are_kept():
    words = WordLosses(10)
    for step, best in ((0, None), (5, None), (10, 5), (15, 5), (20, 5)):
        evaluated(words, step, {3: [1.0] * 5}, best)
    assert [entry.step for entry in words.evaluations] == [0, 5, 20]
    evaluated(words, 20, {3: [2.0] * 5}, 20)
    assert [entry.step for entry in words.evaluations] == [0, 20]
    assert words.evaluations[-1].losses == [2.0]


def test_the_state_survives_a_checkpoint(tmp_path):
    words = WordLosses(10)
    evaluated(words, 7, {3: [1.0, 1.1, 1.2, 0.1, 0.7], 4: [2.0]})
    state = TrainerState(stateful_callbacks=[words])
    state.save_to_json(str(tmp_path / "state.json"))
    other = WordLosses(10)
    other.on_train_begin(None, TrainerState.load_from_json(str(tmp_path / "state.json")), None)
    assert other.evaluations == words.evaluations != []
    assert isinstance(other.evaluations[0], TokenLosses)


@pytest.mark.parametrize("batch_rows", [4, 13])
def test_all_masked_tokens_of_the_validation_texts_are_counted(batch_rows, tmp_path):
    trainer = make_trainer(tmp_path, settings={"per_device_eval_batch_size": batch_rows})
    figures = trainer.evaluate()
    (entry,) = trainer.words.evaluations
    labels = [trainer.masking.fixed().mask_row(np.array(row))[1] for row in trainer.eval_dataset["input_ids"]]
    masked = np.concatenate(labels)
    masked = masked[masked != IGNORED]
    assert entry.masked == len(masked)
    counts = np.bincount(masked)
    assert dict(zip(entry.ids, entry.counts, strict=True)) == {
        i: n for i, n in enumerate(counts.tolist()) if n >= LEAST_MASKED
    }
    total = trainer.words._sums.sum() / len(masked)
    assert total == pytest.approx(figures["eval_loss"], rel=1e-6)


@pytest.mark.parametrize("stopped_at", [7, 20])
def test_a_resumed_run_tells_the_same_story(stopped_at, lit_ft, sft_args):
    """Stopped within the run, and resumed once more when it had ended."""
    flags = [*sft_args, "--eval_strategy", "steps", "--eval_steps", "5", "--save_steps", "5"]
    assert lit_ft("sft", *flags, "--name", "whole")[0] == 0
    trial = json.dumps({"epoch_steps": 1000, "signal": 15, "step": stopped_at})
    again = ["--name", "parts", *flags, "--trial"]
    if stopped_at < 20:
        assert lit_ft("sft", *again, trial)[0] == 143
    else:
        assert lit_ft("sft", *again[:-1])[0] == 0
        Path("runs/parts/version_0/report.json").unlink()
    code, out, err = lit_ft("sft", *again[:-1], "--ckpt_path", "last")
    assert code == 0 and "resuming at step" in out, err
    one, other = (
        json.loads(Path(f"runs/{name}/version_0/report.json").read_text()) for name in ("whole", "parts")
    )
    for key in ("probes_over_steps", "evaluations_over_steps", "words_gained", "advice"):
        assert one[key] == other[key] and one[key], key
    assert one["probes_over_steps"]["steps"] == [0, 5, 10, 15, 20]
    rows = one["probes_over_steps"]["rows"]
    assert [(row["text"], row["mask"]) for row in rows] == [
        ("the [MASK] was great!", 1),
        ("the plot was [MASK], and i [MASK] it!", 1),
        ("the plot was [MASK], and i [MASK] it!", 2),
    ]
    for row, final in zip(rows, [masks for probe in one["probes"] for masks in probe["masks"]], strict=True):
        assert [set(best) for best in row["best"]] == [{"token", "confidence"}] * 5
        assert row["best"][-1]["token"] == final[0]["token"]
        assert row["best"][-1]["confidence"] == pytest.approx(final[0]["confidence"])
    words = one["words_gained"]
    assert (words["first"], words["last"]) == (0, 20) and 3 <= len(words["words"]) <= 30
    assert all(entry["after"] > entry["before"] and entry["masked"] >= 5 for entry in words["words"])
    assert [entry["step"] for entry in one["evaluations_over_steps"]] == [0, 5, 10, 15, 20]
    page = Path("runs/whole/version_0/report.html").read_text()
    for text in (
        "What to know",
        "step by step",
        "Evaluations",
        "Words that gained most",
        "started untrained",
    ):
        assert text in page


def test_probes_begin_at_step_0_without_an_evaluation(lit_ft, sft_args):
    code, _, err = lit_ft("sft", *sft_args, "--eval_on_start", "false", "--eval_strategy", "no")
    assert code == 0, err
    facts = json.loads(Path("runs/small/version_0/report.json").read_text())
    assert facts["probes_over_steps"]["steps"] == [0, 20] and facts["words_gained"] == {}
    assert [entry["step"] for entry in facts["evaluations_over_steps"]] == [20]
    assert "gained most" not in Path("runs/small/version_0/report.html").read_text()
