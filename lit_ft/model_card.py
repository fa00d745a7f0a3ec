"""`model/README.md`: the facts of a run as a model card in the Hub's format."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lit_ft import runs
from lit_ft.markdown import cell, table
from lit_ft.page import duration, number, render
from lit_ft.report_page import FIGURES, WORDS

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w-]*bert[\w.-]*|electra[\w.-]*")  # the few names without an owner
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "mae": "mae", "perplexity": "perplexity"}
MLM_FIGURES = (
    ("perplexity", "masked perplexity", ""),
    ("loss", "loss", ""),
    ("masked_accuracy", "guessed right", ""),
)


def write_model_card(run: Path) -> None:
    """Write the card beside the exported weights, from the run's own files."""
    metrics, facts = runs.read_metrics(run), runs.read_facts(run)
    masked = facts["kind"] == "masked_lm"
    # A run that went on after its test has figures of that test, but nothing was tested of its new weights.
    prefixes = [p for p in WORDS if f"{p}/loss" in metrics and (masked or p in facts["evaluations"])]
    main = prefixes[0]
    if masked:
        before = metrics.get("initial/perplexity")
        result = f"Masked perplexity {number(metrics['val/perplexity'], 2)} on held-out texts"
        result += f", {number(before, 2)} before training." if before is not None else "."
    else:
        rows = facts["evaluations"][main]["rows"]
        accuracy = number(metrics[f"{main}/accuracy"], 3)
        result = f"Accuracy {accuracy} on {rows:,} {WORDS[main]} texts, {len(facts['labels'])} classes."
    shown = MLM_FIGURES if masked else FIGURES
    card = render(
        "model_card.md.j2",
        metadata=_metadata(run, metrics, facts, main).to_yaml().strip(),
        title=f"{run.absolute().parent.name} ({run.name})",
        result=result,
        what="A masked language model" if masked else "A text classifier",
        pretrained=facts["pretrained"],
        use=_use(masked),
        advice=_advice(metrics, facts, masked),
        results=table(
            ("", *(WORDS[p] for p in prefixes)),
            [[what, *(number(metrics.get(f"{p}/{key}")) for p in prefixes)] for key, what, _ in shown],
        ),
        corpus=_corpus(facts),
        training=_training(metrics, facts),
        command=facts["command"].replace("\n", " "),  # a line of its own could end the code block
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


def _advice(metrics: dict[str, Any], facts: dict[str, Any], masked: bool) -> str:
    if masked:
        return ""
    temperature = metrics.get("val/temperature")
    lines = [f"Texts are cut to {facts['max_tokens']} tokens ({facts['truncation']})."]
    if temperature is not None:
        lines.append(
            f"For calibrated probabilities divide the logits by {temperature:.3f} "
            "(`calibration_temperature` in `config.json`)."
        )
    return " ".join(lines)


def _metadata(run: Path, metrics: dict[str, Any], facts: dict[str, Any], main: str) -> ModelCardData:
    task = "fill-mask" if facts["kind"] == "masked_lm" else "text-classification"
    source = facts["splits"]["train"]["where"]
    hub = source.partition("@")[0] if HUB_NAME.fullmatch(source.partition("@")[0]) else None
    base = facts["pretrained"].partition("@")[0]
    results = [
        EvalResult(
            task_type=task,
            dataset_type=hub or "local",
            dataset_name=hub or "local files",
            dataset_split=WORDS[main],
            metric_type=metric,
            metric_value=metrics[f"{main}/{name}"],
            metric_name=name,
        )
        for name, metric in HUB_METRICS.items()
        if metrics.get(f"{main}/{name}") is not None
    ]
    return ModelCardData(
        base_model=base if HUB_NAME.fullmatch(base) and not Path(base).exists() else None,
        datasets=[hub] if hub and not Path(hub).exists() else None,
        eval_results=results,
        library_name="transformers",
        model_name=run.absolute().parent.name,
        pipeline_tag=task,
        tags=["lit_ft"],
    )


def _corpus(facts: dict[str, Any]) -> str:
    keys = [
        ("where", "source"), ("texts", "texts"), ("rows", "rows"), ("tokens", "tokens"),
        ("mean", "mean tokens"), ("cut_rows", "rows cut"), ("fingerprint", "fingerprint"),
    ]  # fmt: skip
    splits = facts["splits"]
    rows = [[what, *(split.get(key, "") for split in splits.values())] for key, what in keys]
    rows = [row for row in rows if any(value != "" for value in row[1:])]
    for c, name in enumerate(facts.get("labels", ())):
        rows.append([f"class {name}", *(split["class_counts"][c] for split in splits.values())])
    return table(("", *splits), rows)


def _training(metrics: dict[str, Any], facts: dict[str, Any]) -> str:
    tokens = metrics.get("train/tokens", metrics.get("train/tokens_seen"))
    seconds = metrics.get("train/seconds", metrics.get("sft/seconds"))
    return (
        f"Seed {facts['seed']}, {number(tokens)} tokens in {duration(seconds)} on {cell(facts['hardware'])}, "
        f"peak memory {number(metrics.get('train/peak_memory_gb'), 2)} GB. Finished {facts['finished']}."
    )
