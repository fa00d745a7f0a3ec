"""Run folders of classifiers that were never trained: the figures are drawn, the report is the real one."""

from pathlib import Path
from typing import Any

import numpy as np

from lit_ft import runs
from lit_ft.report.analysis import count_confusions, summarise, summary_intervals
from lit_ft.report.page import write_report

ARABIC, JAPANESE = "الدفع بالبطاقة مرفوض", "配送が遅れています"
LONG = "Billing: refund not received after cancellation within the period"
NASTY = '<script>document.title="hacked"</script> & "quoted" <img src=x onerror=document.title="hacked">'
TEXTS = ("تم رفض بطاقتي ولا أعرف لماذا.", "荷物がまだ届いていません。", NASTY, "The soup was cold. " * 30)


def names_of(num_classes: int) -> list[str]:
    """Class names: a long one, an Arabic, a Japanese, then short ones."""
    odd = [LONG, ARABIC, JAPANESE] if num_classes > 2 else ["no", "yes"]
    return [*odd, *(f"queue {i}" for i in range(len(odd), num_classes))]


def written_run(folder: Path, num_classes: int, rows: int = 2_000) -> Path:
    """A run folder with its `report.html`."""
    rng = np.random.default_rng(num_classes)
    labels = rng.integers(0, num_classes, rows)
    logits = rng.normal(size=(rows, num_classes)) * 1.5
    logits[np.arange(rows), labels] += 3.5
    predicted = logits.argmax(1)
    metrics: dict[str, Any] = {"train/seconds": 93.0, "fit/seconds": 120.0}
    evaluations = {}
    for prefix in ("test", "val"):
        summary = summarise(logits, labels, predicted, np.arange(rows), 1.2, labels % 9 == 0)
        summary["intervals"] = summary_intervals(logits, labels, predicted, 1.2, False)
        summary["confusion"] = count_confusions(labels, predicted, num_classes)
        summary["mistakes"] = [
            {**entry, "row": entry["index"] + 1, "text": f"{TEXTS[entry['index'] % 4]} ({entry['index']})"}
            for entry in summary["mistakes"]
        ]
        evaluations[prefix] = summary
        scores = {"accuracy": (labels == predicted).mean(), "macro_f1": 0.7, "loss": 0.9, "ece": 0.06}
        scores |= {"ece_calibrated": 0.02, "temperature": 1.2, "rows": rows, "step": 30}
        for name, ends in summary["intervals"]["scores"].items():
            scores |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
        metrics |= {f"{prefix}/{name}": float(value) for name, value in scores.items()}
    counts = np.bincount(labels, minlength=num_classes).tolist()
    split = {
        "rows": rows, "empty_rows": 0, "tokens": 30 * rows, "mean": 30.0, "median": 28.0, "p95": 60.0,
        "max": 90, "cut_rows": rows // 9, "cut_tokens": 99, "class_counts": counts,
        "fingerprint": "0123456789abcdef",
        "histogram": {"edges": [0, 20, 40, 60], "counts": [400, 900, 700]},
    }  # fmt: skip
    accuracy = metrics["test/accuracy"]
    beaten = {"accuracy": accuracy - 0.1, "only_model_right": 300, "only_baseline_right": 100}
    facts = {
        "kind": "classifier", "labels": names_of(num_classes), "pretrained": "minilm-l6", "from_hub": False,
        "step": 30, "temperature": 1.2, "max_tokens": 64, "truncation": "head", "ordered": False,
        "decide": "mode", "copies": 12,
        "splits": {name: {**split, "where": f"{name}.csv"} for name in ("train", "validation", "test")},
        "evaluations": evaluations, "command": "python -m lit_ft fit --config reviews.yaml", "seed": 42,
        "hardware": "2 cores", "finished": "2026-11-29 12:00 UTC", "versions": {"torch": "2.13.0"},
        "history": {
            "train": [{"epoch": epoch, "loss": 1.5 / epoch} for epoch in (1, 2, 3)],
            "validation": [
                {"epoch": epoch, "step": 10 * epoch, "val/loss": loss, "val/accuracy": 0.7}
                for epoch, loss in ((1, 1.2), (2, 1.0), (3, 0.9))
            ],
        },
        "baselines": {
            "commonest": {"class": 1, "share": 0.2},
            "words": {"seconds": 0.4, "converged": True},
            "evaluations": {"test": {"commonest": {"accuracy": 1 / num_classes}, "words": beaten}},
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    runs.add_metrics(folder, metrics)
    runs.add_facts(folder, facts)
    curves(folder)
    return write_report(folder, runs.read_metrics(folder), runs.read_facts(folder))


def curves(folder: Path) -> None:
    """The event file of a run of three epochs."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step in range(0, 31, 2):
            writer.add_scalar("train/loss", 1.5 / (1 + step / 10), step)
            writer.add_scalar("train/learning_rate", 5e-5 * (1 - step / 30), step)
        for step, loss in ((10, 1.2), (20, 1.0), (30, 0.9)):
            writer.add_scalar("val/loss", loss, step)
            writer.add_scalar("val/accuracy", 0.5 + step / 100, step)
