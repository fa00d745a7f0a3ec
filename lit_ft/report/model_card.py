"""`model/README.md`: the model card, in the Hub's format."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lit_ft import runs
from lit_ft.report.analysis import per_class
from lit_ft.report.classifier_findings import class_findings
from lit_ft.report.findings import Finding
from lit_ft.report.multi_label import CHOSEN
from lit_ft.report.multi_label_findings import main_figure, tag_findings
from lit_ft.report.page import render
from lit_ft.report.regression_findings import regression_findings, unit_of
from lit_ft.report.scores import SCORES, SPLITS, Score, scores_of_run
from lit_ft.report.tables import MOST_LISTED, cell, class_rows, duration, number, table
from lit_ft.tasks import DECISIONS, Decision


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
    else:
        result = _result(main, metrics, facts)
    pair = "pair" in facts.get("columns", {})
    scores = scores_of_run(facts)
    headline = "perplexity" if masked else scores[0].name
    shown = [s for s in scores if any(f"{p}/{s.name}" in metrics for p in prefixes)]
    shown.sort(key=lambda score: score.name != headline)
    card = render(
        "model_card.md.j2",
        metadata=_metadata(run, metrics, facts, main).to_yaml().strip(),
        title=f"{run.absolute().parent.name} ({run.name})",
        result=result,
        what=KINDS[facts["kind"]].what,
        pretrained=facts["pretrained"],
        use=KINDS[facts["kind"]].use.format(EXAMPLE.format(*EXAMPLES) if pair else EXAMPLES[0]),
        example=", ".join(EXAMPLES[: 1 + pair]),
        advice="" if masked else _advice(facts),
        decision="" if masked else _decision(facts, ", ".join(EXAMPLES[: 1 + pair])),
        calibrate=facts.get("temperature"),
        results=_results(prefixes, shown, metrics, facts) if prefixes else result,
        classes=""
        if not main
        else KINDS[facts["kind"]].parts(facts.get("evaluations", {}).get(main, {}), facts),
        limits=[] if masked or not main else _limits(main, metrics, facts),
        corpus=_corpus(facts),
        training=_training(metrics, facts),
        command=_without_folders(facts["command"].replace("\n", " ")),  # a line break could end the block
        versions=", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    )
    runs.write(run / runs.MODEL / "README.md", card)


EXAMPLES = ('"The soup was cold."', '"Was the food warm?"')
EXAMPLE = '{{"text": {}, "text_pair": {}}}'


def _result(main: str | None, metrics: dict[str, Any], facts: dict[str, Any]) -> str:
    """The headline of a fit as a sentence, with its interval."""
    kind = KINDS[facts["kind"]]
    of = kind.of(facts)
    if main is None:
        return f"Not measured yet: no validation took place. {of[0].upper()}{of[1:]}."
    scores = scores_of_run(facts)
    name = kind.figure(main, facts)
    score = next(score for score in scores if score.name == name) if name else scores[0]
    rows = facts["evaluations"][main]["rows"]
    value, low, high = (metrics.get(f"{main}/{score.name}{end}") for end in ("", "_low", "_high"))
    digits = min(score.digits, 3) if not score.in_unit else score.digits
    result = (
        f"{score.words[0].upper()}{score.words[1:]} {number(value, digits)} on {rows:,} {SPLITS[main]} texts"
    )
    if low is not None:
        result += f", 95 % interval {number(low, digits)} to {number(high, digits)}"
    return f"{result} ({cell(facts['splits'][SPLITS[main]]['where'])}), {of}."


def _advice(facts: dict[str, Any]) -> str:
    lines = [f"Texts are cut to {facts['max_tokens']} tokens ({facts['truncation']})."]
    columns = facts.get("columns", {})
    if joined := columns.get("joined"):
        names = ", ".join(map(cell, joined["columns"]))
        each = f', each after its name ("{cell(joined["columns"][0])}: ")' if joined["names"] else ""
        separator = json.dumps(joined["separator"], ensure_ascii=False)
        between = f", joined by {cell(separator)}" if len(joined["columns"]) > 1 else ""
        lines.append(
            f"A text is made of a row's {names}{each}{between}; empty ones are left out. Of a longer text "
            "predict cuts the longest of them first, a pipeline cuts the whole."
        )
    if "pair" in columns:
        lines.append(
            f"The second text, text_pair, is a row's {cell(columns['pair'])}. Of a longer pair the longest "
            "text is cut first. An empty second text was read as an empty one, which a pipeline leaves out."
        )
    return " ".join(lines)


# The class of one text's `probabilities`, (1, C), as in decisions.py.
DECIDED = {
    "median": "(probabilities.double().cumsum(-1) >= 0.5 - 1e-6).int().argmax(-1)",
    "mean": "((probabilities * torch.arange(probabilities.shape[-1])).sum(-1) - 0.5 - 1e-6).ceil().long()",
}


def _decision(facts: dict[str, Any], example: str) -> str:
    """Which class of a scale the figures take, and how to get it for a text if a pipeline gives another."""
    if not facts.get("ordered"):
        return ""
    how: Decision = facts["decide"]
    told = f"take {DECISIONS[how]} (`decide` in `config.json`: {how})."
    if how == "mode":
        return f"The figures here, `predict` and a plain `pipeline` {told}"
    return (
        f"The figures here and `predict` {told} A plain "
        "`pipeline` puts the likeliest class first (mode). To decide as they do:\n\n"
        "```python\n"
        "import torch\n"
        f'inputs = classify.tokenizer({example}, truncation=True, return_tensors="pt")\n'
        "with torch.inference_mode():\n"
        "    logits = classify.model(**inputs).logits\n"
        "probabilities = (logits / classify.model.config.calibration_temperature).softmax(-1)\n"
        f"chosen = {DECIDED[how]}\n"
        "classify.model.config.id2label[chosen.item()]\n"
        "```"
    )


def _results(prefixes: list[str], scores: list[Score], metrics: dict[str, Any], facts: dict[str, Any]) -> str:
    """The scores with their intervals; below them what the baselines reach on the same texts."""

    def shown(tag: str, digits: int) -> str:
        low, high = metrics.get(f"{tag}_low"), metrics.get(f"{tag}_high")
        span = f" ({number(low, digits)} to {number(high, digits)})" if low is not None else ""
        return number(metrics.get(tag), digits) + span

    rows = [[s.words, *(shown(f"{p}/{s.name}", s.digits) for p in prefixes)] for s in scores]
    main = scores_of_run(facts)[0]
    for name, words in BASELINES.items():
        tags = [f"baseline/{name}/{p}/{main.name}" for p in prefixes]
        if any(tag in metrics for tag in tags):
            rows.append(
                [f"{main.words} of {words}", *(number(metrics.get(tag), main.digits) for tag in tags)]
            )
    with_ends = any(f"{p}/{s.name}_low" in metrics for p in prefixes for s in scores)
    note = "\n\nIn brackets: 95 % bootstrap intervals." if with_ends else ""
    return table(("", *(SPLITS[p] for p in prefixes)), rows) + note


def _classes(evaluation: dict[str, Any], facts: dict[str, Any]) -> str:
    """Precision, recall and F1 of each class, or of the `MOST_LISTED` with the most texts."""
    names = facts["labels"]
    found = per_class(evaluation["class_counts"])
    most = sorted(range(len(names)), key=lambda c: -found[c]["rows"])[:MOST_LISTED]
    rows = [
        [names[c], found[c]["rows"], *(number(found[c][key], 3) for key in ("precision", "recall", "f1"))]
        for c in sorted(most)
    ]
    more = (
        [[f"and {len(names) - len(most):,} more classes", "", "", "", ""]] if len(names) > len(most) else []
    )
    return table(("class", "texts", "precision", "recall", "F1"), [*rows, *more])


def _levels(evaluation: dict[str, Any], facts: dict[str, Any]) -> str:
    """The errors by level of the true number."""
    shown = unit_of(facts)
    rows = [
        [
            f"{shown(group['low'])} to {shown(group['high'])}",
            group["rows"],
            shown(group["mae"]),
            shown(group["bias"]),
        ]
        for group in evaluation["by_label"]
    ]
    return table(("true number", "texts", "off by", "too high by"), rows)


def _labels(evaluation: dict[str, Any], facts: dict[str, Any]) -> str:
    """Figures and threshold of each label, or of the `MOST_LISTED` with the most texts."""
    names, found = facts["labels"], per_class(evaluation["class_counts"])
    most = sorted(range(len(names)), key=lambda c: -found[c]["rows"])[:MOST_LISTED]
    rows = [
        [
            names[c],
            found[c]["rows"],
            *(number(found[c][key], 3) for key in ("precision", "recall", "f1")),
            number(evaluation["average_precisions"][c], 3),
            number(evaluation["thresholds"][c], 3),
        ]
        for c in sorted(most)
    ]
    more = [[f"and {len(names) - len(most):,} more labels", *[""] * 6]] if len(names) > len(most) else []
    heads = ("label", "texts", "precision", "recall", "F1", "average precision", "threshold")
    given, none = evaluation["without_label"]["given"], evaluation["without_label"]["predicted"]
    note = " (which were fitted on these texts)" if evaluation["fitted_here"] else ""
    return (
        f"{table(heads, [*rows, *more])}\n\nPrecision, recall and F1 at the thresholds{note}. "
        f"{given:,} texts have no label, {none:,} get none."
    )


TAGGING = """\
tag = pipeline("text-classification", model="PATH_OR_NAME", top_k=None)
least = dict(zip(tag.model.config.id2label.values(), tag.model.config.thresholds))
answers = tag("The soup was cold.", truncation=True)
[answer["label"] for answer in answers if answer["score"] >= least[answer["label"]]]"""


@dataclass(frozen=True)
class Kind:
    """What a card says of one kind of report.

    Attributes:
        what: The model.
        use: How to call it, with {} for the example.
        of: Facts -> what it tells apart.
        parts: Evaluation and facts -> the figures of its parts, as a table.
        findings: Prefix, metrics and facts -> what to know.
        figure: Prefix and facts -> the name of the figure that is the result; None for the first score.
    """

    what: str
    use: str
    of: Callable[[dict[str, Any]], str]
    parts: Callable[[dict[str, Any], dict[str, Any]], str]
    findings: Callable[..., list[Finding]]
    figure: Callable[[str, dict[str, Any]], str | None] = lambda prefix, facts: None


KINDS = {
    "classifier": Kind(
        "A text classifier",
        'classify = pipeline("text-classification", model="PATH_OR_NAME", top_k=None)\n'
        "classify({}, truncation=True)",
        lambda facts: f"{len(facts['labels'])} classes",
        _classes,
        class_findings,
    ),
    "multi_label": Kind(
        "A text classifier that gives a text any number of labels,",
        TAGGING,
        lambda facts: f"{len(facts['labels'])} labels",
        _labels,
        tag_findings,
        main_figure,
    ),
    "regression": Kind(
        "A model that gives a text a number, in the unit of its training labels,",
        'rate = pipeline("text-classification", model="PATH_OR_NAME")\n'
        'rate([{}], truncation=True)[0]["score"]',  # a list: of a single pair it would give no list
        lambda facts: f"predicting {cell(facts['labels'][0])}",
        _levels,
        regression_findings,
    ),
    "masked_lm": Kind(
        "A masked language model",
        'fill = pipeline("fill-mask", model="PATH_OR_NAME")\nfill("This is a [MASK] movie!")',
        lambda facts: "",
        lambda evaluation, facts: "",
        lambda *of: [],
    ),
}
# Of a run -> in words
BASELINES = {
    "words": "counting words",
    "commonest": "the commonest class or set of labels",
    "mean": "always the training mean",
    "median": "always the training median",
}


def _without_folders(command: str) -> str:
    """A command line whose absolute paths are file names: where a file lay on one machine helps nobody."""
    return re.sub(r"(?<![\w.])[~/](?:[^\s'\",\]=]*/)?(?=[^\s/'\",\]=])", "", command)


def _limits(main: str, metrics: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """The findings that a user of the model should know, without what its maker could do."""
    told = [found for found in KINDS[facts["kind"]].findings(main, metrics, facts) if found.level != "good"]
    return [cell(Finding(found.level, found.text).plain()) for found in told]


def _metadata(run: Path, metrics: dict[str, Any], facts: dict[str, Any], main: str | None) -> ModelCardData:
    task = "fill-mask" if facts["kind"] == "masked_lm" else "text-classification"
    trained_on = _hub_dataset(facts, "train")
    measured_on = _hub_dataset(facts, SPLITS[main]) if main else None
    # Figures at thresholds that these very texts chose are too good to publish: those from 0.5 on are not.
    fitted = facts.get("evaluations", {}).get(main, {}).get("fitted_here")
    named = {s.name.removesuffix(CHOSEN) if fitted else s.name: s.hub for s in SCORES[facts["kind"]] if s.hub}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=measured_on or "local",
            dataset_name=measured_on or "local files",
            dataset_split=facts["splits"][SPLITS[main]].get("part", SPLITS[main]),
            metric_type=hub,
            metric_value=metrics[f"{main}/{name}"],
            metric_name=name,
        )
        for name, hub in named.items()
        if main and metrics.get(f"{main}/{name}") is not None
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
    where = facts["splits"]["train" if found["where"].endswith("held out of train") else split]["where"]
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
