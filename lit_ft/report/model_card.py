"""`model/README.md`: the model card, in the Hub's format."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lit_ft import runs
from lit_ft.report.page import render
from lit_ft.report.scores import SCORES, SPLITS
from lit_ft.report.tables import cell, class_rows, duration, number, table


def write_model_card(run: Path, metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the card beside the exported weights, from what is in `metrics.json` and `report.json`."""
    masked = facts["kind"] == "masked_lm"
    # A run that was resumed after its test may keep that test's figures, but its new weights are untested.
    prefixes = [p for p in SPLITS if f"{p}/loss" in metrics and (masked or p in facts["evaluations"])]
    main = next(iter(prefixes), None)
    if masked:
        before = metrics.get("initial/perplexity")
        result = f"Masked perplexity {number(metrics['val/perplexity'], 2)} on held-out texts"
        result += f", {number(before, 2)} before training." if before is not None else "."
    elif main is None:
        result = f"Not measured yet: no validation took place. {len(facts['labels'])} classes."
    else:
        rows = facts["evaluations"][main]["rows"]
        accuracy = number(metrics[f"{main}/accuracy"], 3)
        result = f"Accuracy {accuracy} on {rows:,} {SPLITS[main]} texts"
        result += f" ({cell(facts['splits'][SPLITS[main]]['where'])}), {len(facts['labels'])} classes."
    scores = SCORES[facts["kind"]]
    headline = "perplexity" if masked else "accuracy"
    shown = [s for s in scores if any(f"{p}/{s.name}" in metrics for p in prefixes)]
    shown.sort(key=lambda score: score.name != headline)
    card = render(
        "model_card.md.j2",
        metadata=_metadata(run, metrics, facts, main).to_yaml().strip(),
        title=f"{run.absolute().parent.name} ({run.name})",
        result=result,
        what="A masked language model" if masked else "A text classifier",
        pretrained=facts["pretrained"],
        use=_use(masked),
        advice="" if masked else _advice(facts),
        results=table(
            ("", *(SPLITS[p] for p in prefixes)),
            [[s.words, *(number(metrics.get(f"{p}/{s.name}"), s.digits) for p in prefixes)] for s in shown],
        )
        if prefixes
        else result,
        corpus=_corpus(facts),
        training=_training(metrics, facts),
        command=facts["command"].replace("\n", " "),  # a line break could end the code block
        versions=", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    )
    runs.write(run / runs.MODEL / "README.md", card)


def _use(masked: bool) -> str:
    if masked:
        return 'fill = pipeline("fill-mask", model="PATH_OR_NAME")\nfill("This is a [MASK] movie!")'
    return (
        'classify = pipeline("text-classification", model="PATH_OR_NAME", top_k=None)\n'
        'classify("The soup was cold.", truncation=True)'
    )


def _advice(facts: dict[str, Any]) -> str:
    lines = [f"Texts are cut to {facts['max_tokens']} tokens ({facts['truncation']})."]
    if facts["temperature"] is not None:  # of `config.json`, not of a later evaluation
        lines.append(
            f"For calibrated probabilities divide the logits by {facts['temperature']:.3f} "
            "(`calibration_temperature` in `config.json`)."
        )
    return " ".join(lines)


def _metadata(run: Path, metrics: dict[str, Any], facts: dict[str, Any], main: str | None) -> ModelCardData:
    task = "fill-mask" if facts["kind"] == "masked_lm" else "text-classification"
    trained_on = _hub_dataset(facts, "train")
    measured_on = _hub_dataset(facts, SPLITS[main]) if main else None
    results = [
        EvalResult(
            task_type=task,
            dataset_type=measured_on or "local",
            dataset_name=measured_on or "local files",
            dataset_split=SPLITS[main],
            metric_type=score.hub,
            metric_value=metrics[f"{main}/{score.name}"],
            metric_name=score.name,
        )
        for score in SCORES[facts["kind"]]
        if main and score.hub and metrics.get(f"{main}/{score.name}") is not None
    ]
    return ModelCardData(
        base_model=facts["pretrained"].partition("@")[0] if facts["from_hub"] else None,
        datasets=[trained_on] if trained_on else None,
        eval_results=results or None,
        library_name="transformers",
        model_name=run.absolute().parent.name,
        pipeline_tag=task,
        tags=["lit_ft"],
    )


def _hub_dataset(facts: dict[str, Any], split: str) -> str | None:
    """The Hub dataset that a split came from; held-out rows came from that of the training split."""
    found = facts["splits"][split]
    if not found["from_hub"]:
        return None
    where = facts["splits"]["train"]["where"] if found["where"] == "held out of train" else found["where"]
    return where.partition("@")[0]


def _corpus(facts: dict[str, Any]) -> str:
    keys = [
        ("where", "source"), ("texts", "texts"), ("rows", "rows"), ("tokens", "tokens"),
        ("mean", "mean tokens"), ("cut_rows", "rows cut"), ("fingerprint", "fingerprint"),
    ]  # fmt: skip
    splits = facts["splits"]
    rows = [[what, *(split.get(key, "") for split in splits.values())] for key, what in keys]
    rows = [row for row in rows if any(value != "" for value in row[1:])]
    rows += class_rows(splits, facts.get("labels", ()))
    return table(("", *splits), rows)


def _training(metrics: dict[str, Any], facts: dict[str, Any]) -> str:
    tokens = metrics.get("train/tokens", metrics.get("train/tokens_seen"))
    seconds = metrics.get("train/seconds", metrics.get("sft/seconds"))
    return (
        f"Seed {facts['seed']}, {number(tokens)} tokens in {duration(seconds)} on {cell(facts['hardware'])}, "
        f"peak memory {number(metrics.get('train/peak_memory_gb'), 2)} GB. Finished {facts['finished']}."
    )
