"""What an `sft` shows while it runs: a line per evaluation with the probes, and the bar."""

import io
import json
import re
import sys
from pathlib import Path

from transformers import TrainerState, TrainingArguments

from lit_ft.masked_lm.candidates import filled_in
from lit_ft.masked_lm.progress import EvaluationLines, RunBar

HEAD = ["step", "epoch", "train loss", "val loss", "perplexity", "guessed right", "elapsed"]


def test_figures_and_probes_at_each_evaluation(lit_ft, sft_args):
    code, out, err = lit_ft("sft", *sft_args, "--eval_strategy=steps", "--eval_steps=10", "--save_steps=10")
    assert code == 0, err
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if re.split(r"\s{2,}", line.strip()) == HEAD)
    assert lines[start - 1] == "run: runs/small/version_0 (watch it: tensorboard --logdir runs)"
    rows = [line.split() for line in lines[start + 1 : start + 10 : 3]]
    found = json.loads(Path("runs/small/version_0/metrics.json").read_text())
    assert [row[0] for row in rows] == ["0", "10", "20"] and rows[0][2] == "\u2013"
    assert rows[2][2] == f"{found['train/loss']:.3f}"
    for row, prefix in ((rows[0], "initial"), (rows[2], "val")):
        assert row[3] == f"{found[f'{prefix}/loss']:.3f}"
        assert row[5] == f"{found[f'{prefix}/masked_accuracy']:.3f}"
    for i in range(start + 2, start + 10, 3):
        assert re.fullmatch(r"    the \[\S+ [01]\.\d\d\] was great!", lines[i])
        assert re.fullmatch(r"    the plot was \[\S+ 0\.\d\d\], and i \[\S+ [01]\.\d\d\] it!", lines[i + 1])
    assert lines[-1] == "next:   python -m lit_ft fit --config FILE --model.pretrained sft:small"
    assert max(len(line) for line in lines if not line.startswith(("train: ", "validation: "))) <= 80


def test_the_bar(lit_ft, sft_args, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("lit_ft.progress.TERMINAL_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal())
        code, out, _ = lit_ft("sft", *sft_args)
        shown = sys.stderr.getvalue()
    assert code == 0 and "\r" not in out
    assert re.search(r"\rtraining  50%\|.+\| 10/20, loss \d\.\d{3}, [\d,]+ tokens/s, 0:0\d left", shown)
    assert re.search(r"\rvalidating (\d)/\1   0%\|", shown) and re.search(
        r"\rvalidating (\d)/\1 100%\|", shown
    )
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal())
        assert lit_ft("sft", *sft_args, "--trainer_args.disable_tqdm=true", "--max_steps=2")[0] == 0
        assert "training" not in sys.stderr.getvalue()


def test_only_process_0_speaks(capsys):
    state = TrainerState(max_steps=4, is_world_process_zero=False, log_history=[{"step": 0, "val/loss": 1.0}])
    args, bar, lines = TrainingArguments(), RunBar(), EvaluationLines()
    bar.on_train_begin(args, state, None)
    lines.on_evaluate(args, state, None)
    assert bar._progress is None and capsys.readouterr().out == ""


def test_a_probe_with_its_best_words():
    def best(*words: str) -> list:
        return [[{"token": word, "id": 1, "confidence": 0.5}] for word in words]

    assert filled_in("a [MASK] b [MASK]", best("x", "y"), 40) == "a [x 0.50] b [y 0.50]"
    assert filled_in("a <mask> b", best("x"), 40) == "a <mask> b [x 0.50]"
    long = filled_in(f"{'left ' * 30}[MASK] {'right ' * 30}", best("x"), 60)
    assert "left [x 0.50] right" in long and len(long) == 60 and long[:3] == long[-3:] == "..."
