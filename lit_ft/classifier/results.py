"""What `fit`, `validate` and `test` write into the run folder, and print at the end."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer

from lit_ft import runs
from lit_ft.classifier import baselines
from lit_ft.classifier.baselines import Baselines
from lit_ft.classifier.callbacks import Tracking
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.per_text import SPLIT, keep_current, write_per_text
from lit_ft.classifier.resume import READING, open_checkpoint
from lit_ft.classifier.tracking import RunLogger
from lit_ft.console import say, width
from lit_ft.data.facts import corpus_facts
from lit_ft.data.splits import Split, copies_of
from lit_ft.data.text_columns import shown_texts
from lit_ft.errors import as_written, unusable
from lit_ft.models.export import export_model, say_where, weights_of
from lit_ft.models.names import shown_name
from lit_ft.report.model_card import write_model_card
from lit_ft.report.page import write_report
from lit_ft.report.results import write_results
from lit_ft.report.scores import Score, console
from lit_ft.report.slices import of_slices, slice_tags
from lit_ft.report.tables import aligned, decision_rows
from lit_ft.report.verdict import verdict

OF_TESTS = re.compile(r"(?:baseline/\w+/)?(test|fold)/")
MOST_LETTERS = 600  # of a text in a report: one screen of a phone


def leave_results(
    tracking: Tracking,
    trainer: Trainer,
    model: BertClassifier,
    datamodule: YelpDataModule,
    provenance: dict[str, Any],
    seconds: float,
) -> None:
    """Write `metrics.json`, `loss.png`, `model/` and `report.html` of a fit, and print where they are.

    Args:
        tracking: The callbacks of the fit.
        trainer: The finished trainer.
        model: The model, with the weights of the last step.
        datamodule: The splits.
        provenance: From `machine.provenance`.
        seconds: The time since the command started.
    """
    run = tracking.run
    assert model.net is not None and datamodule.labels is not None
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        say(f"fast_dev_run: training and validation work; only {run / runs.CONFIG} was kept")
        return
    history = tracking.history
    metrics: dict[str, Any] = {
        **tracking.throughput.figures(),
        **tracking.finite.figures(),
        "fit/seconds": seconds,
    }
    if history.train:
        metrics["train/epoch_loss"] = history.train[-1]["loss"]
    which = "best" if tracking.best.path.is_file() else "last"
    checkpoint = open_checkpoint(run / runs.CHECKPOINTS / f"{which}.ckpt")
    step = checkpoint["global_step"]
    settings, names = datamodule.hparams, datamodule.labels.names
    facts: dict[str, Any] = {
        "kind": model.task.report,
        "labels": list(names),
        "pretrained": shown_name(model.hparams["pretrained"]),
        "from_hub": model.from_hub,
        "step": step,
        "temperature": checkpoint["temperature"],
        "max_tokens": settings["max_tokens"],
        "truncation": settings["truncation"],
        "splits": corpus_facts(datamodule.splits, datamodule.text_source, datamodule.labels),
        "ordered": datamodule.labels.ordered,
        **({"decide": model.hparams["decide"]} if model.task.decisions else {}),
        "copies": copies_of(datamodule.splits["train"], datamodule.splits["validation"]),
        "history": {"train": history.train, "validation": history.validation},
        "evaluations": {},
        model.kind.fitted: checkpoint.get(model.kind.fitted),
        **model.kind.facts(datamodule.labels),
        **provenance,
    }
    if columns := datamodule.text_source.columns():
        facts["columns"] = columns
    if (known := tracking.dashboard.baselines) is not None:
        metrics |= known.figures()
        facts["baselines"] = known.facts()
    if which == "best":
        at_best = [entry for entry in history.validation if entry["step"] == step][-1]
        metrics |= {tag: value for tag, value in at_best.items() if tag.startswith("val/")}
        summary = dict(tracking.dashboard.summaries[step])
        metrics |= {"val/step": step, "val/rows": summary["rows"], **interval_tags("val", summary)}
        compared = summary.pop("baselines", {})
        if known is not None:
            compared = compared or _compared_afterwards(run, known, metrics, model, datamodule)
            metrics |= baselines.tags(compared, "val")
            facts["baselines"]["evaluations"]["val"] = compared
        facts["evaluations"]["val"] = with_texts(summary, datamodule.splits["validation"])
        print_table("val", metrics, model.scores, f"best checkpoint (by {tracking.monitor}): step {step}")
        print_decisions(summary)
    else:
        say("no validation took place: model/ holds the last weights")
    _keep_tests(run, facts)
    keep_current(run, step, which)
    net = model.net
    for name, value in model.kind.settings(model, checkpoint.get(model.kind.fitted)).items():
        setattr(net.config, name, value)
    weights = model.kind.exported(datamodule.labels, net.config, weights_of(checkpoint))
    cut = settings["max_tokens"], settings["truncation"]
    facts = write_results(
        run,
        metrics,
        facts,
        lambda: export_model(run, net, weights, datamodule.tokenizer, *cut),
        history.train,
        history.validation,
        without=lambda tag: of_slices("val")(tag) or _of_other_weights(run, tag, step),
    )
    if which == "best":
        _tell_verdict("val", metrics, facts)
    say_where(run, _next_command(run, step, datamodule))


def _compared_afterwards(
    run: Path, known: Baselines, metrics: dict[str, Any], model: BertClassifier, datamodule: YelpDataModule
) -> dict[str, Any]:
    """The baselines beside a best checkpoint that was measured before they were asked for."""
    said, split = model.kind.read(run, "val", metrics), datamodule.splits["validation"]
    if isinstance(said, str):
        say(f"the baselines are not measured on the validation texts: {said}; `validate` measures them")
        return {}
    places = split.rows.positions[np.searchsorted(split.source_rows, said.rows)]
    assert datamodule.labels is not None
    with baselines.spared("baselines not measured"):
        return known.measure(split, places, said.labels, said.predicted)
    return {}


def _tell_verdict(prefix: str, metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """Print how good the model is, beside what, and what to know."""
    say("")
    for line in verdict(prefix, metrics, facts, width() or 80):
        say(line)
    say("")


def _next_command(run: Path, step: int, datamodule: YelpDataModule) -> str:
    """What to run after a fit: `test`, if it measures what was not measured yet; else `predict`."""
    command = f"python -m lit_ft {{}} --name {run.parent.name}"
    if run not in runs.versions(run.parent.name):  # it is one of several, and has no name of its own
        best = shlex.quote(str(run / runs.CHECKPOINTS / "best.ckpt"))
        command = f"python -m lit_ft {{}} --ckpt_path {best}"
    has_test = datamodule.text_source.origin("test") is not None
    measured = [split for split in datamodule.tested_splits() if split == "fold" or has_test]
    if any(_step_of(run, prefix) != step for prefix in measured):
        return command.format("test")
    return f"{command.format('predict')} --data.predict_path FILE"


def _of_other_weights(run: Path, tag: str, step: int) -> bool:
    """Whether a tag is of an earlier `test`, of the weights of another step."""
    found = OF_TESTS.match(tag)
    return found is not None and _step_of(run, found[1]) != step


def _step_of(run: Path, prefix: str) -> int | None:
    """The step of the weights that were measured on the test split, or the fold."""
    return runs.read_metrics(run).get(f"{prefix}/step")


def _keep_tests(run: Path, facts: dict[str, Any]) -> None:
    """Keep what `test` measured before the fit was resumed, if these are the same weights."""
    before = runs.read_facts(run)
    for prefix in ("test", "fold"):
        if _step_of(run, prefix) != facts["step"]:
            continue
        for key in ("evaluations", "splits"):
            if prefix in before.get(key, {}):
                facts[key][prefix] = before[key][prefix]
        measured = before.get("baselines", {}).get("evaluations", {}).get(prefix)
        if measured and "baselines" in facts:
            facts["baselines"]["evaluations"][prefix] = measured


def record_evaluation(
    run: Path | None,
    prefix: str,
    model: BertClassifier,
    datamodule: YelpDataModule,
    metrics: dict[str, Any],
    checkpoint: Path,
    trained: dict[str, Any],
    known: Baselines | None = None,
) -> None:
    """Print what `validate` or `test` measured, and add it to the run of the checkpoint.

    The card, the report and the tags `val/...`, `fold/...` and `test/...` belong to the weights in `model/`,
    on texts read and decided as in training. Metrics of other weights or settings get tags of their own.
    TensorBoard gets the metrics of test and fold at the checkpoint's step; those of validation it has from
    `fit`. The Trainer would log both at step 0, as a second point in the validation curves.

    Args:
        run: The run folder of the checkpoint, or None.
        prefix: `val`, `fold` or `test`.
        model: The evaluated model.
        datamodule: The evaluated split.
        metrics: Tag -> value, including the confusion matrix, which goes to `report.json`, and the step.
        checkpoint: The checkpoint file.
        trained: The settings in the checkpoint.
        known: The run's baselines, to measure them on the same rows.
    """
    assert datamodule.labels is not None
    outcomes = model.outcomes[prefix]
    name = SPLIT[prefix]
    split = datamodule.splits[name]
    summary, scores = model.kind.summarise(model, prefix, split), model.scores
    metrics = {**metrics, f"{prefix}/rows": len(outcomes.labels), **interval_tags(prefix, summary)}
    print_table(prefix, metrics, scores, str(checkpoint))
    print_decisions(summary)
    if run is None:
        say("the checkpoint is not in a run folder, so metrics.json was not written")
        return
    facts = runs.read_facts(run)
    confusion = metrics.pop(f"{prefix}/confusion_matrix", None)
    step = metrics[f"{prefix}/step"]
    decide = model.hparams["decide"]
    if why := _not_of_the_model(run, facts, step, checkpoint, model, datamodule, trained):
        stem = checkpoint.stem + ("" if decide == trained["model"]["decide"] else f"_{decide}")
        runs.add_metrics(
            run,
            {f"{stem}/{tag}": value for tag, value in metrics.items()},
            without=of_slices(f"{stem}/{prefix}"),
        )
        if facts:  # else the fit is unfinished, and a report.json would say that it is not
            of_it = {"step": step, "confusion": confusion}
            others = {**facts.get("other_evaluations", {}), f"{stem}/{prefix}": of_it}
            runs.add_facts(run, {"other_evaluations": others})
        say(f"metrics: {run / runs.METRICS}, under {stem}/{prefix}/..., because {why}")
        return
    compared: dict[str, Any] = {}
    if known is not None:
        with baselines.spared("baselines not measured"):
            said = outcomes.index, split.labels_of(outcomes.index), model.kind.answer(outcomes)
            compared = known.measure(split, *said)
    whole = runs.add_metrics(run, metrics | baselines.tags(compared, prefix), without=of_slices(prefix))
    write_per_text(run, prefix, outcomes, datamodule, step, model)
    names = datamodule.labels.names
    say(f"metrics: {run / runs.METRICS}")
    say(f"texts:   {run / runs.PER_TEXT[prefix]}")
    if prefix != "val":
        logger = RunLogger(run)
        tags = [f"{prefix}/{score.name}" for score in console(scores)]
        logger.log_metrics({tag: metrics[tag] for tag in tags if tag in metrics}, step)
        model.kind.draw(logger.experiment, prefix, outcomes, summary, confusion, names, step)
        logger.finalize("success")
    if not facts:  # the fit was killed, or still runs
        say(f"no report: the fit of {run} is unfinished")
        return
    with unusable(f"{run / runs.FACTS}", "the figures are in metrics.json anyway"):
        now = corpus_facts({name: split}, datamodule.text_source, datamodule.labels)
        before = facts["splits"].get(name)
        if before and before["fingerprint"] != now[name]["fingerprint"]:
            say(f"{prefix}/... was measured on {_named(before)}, now on {_named(now[name])}")
        facts["evaluations"][prefix] = with_texts({**summary, "confusion": confusion}, split)
        facts["splits"] |= now
        if known is not None and compared:
            facts.setdefault("baselines", known.facts())["evaluations"][prefix] = compared
        facts = runs.add_facts(run, facts)
        if (run / runs.MODEL).is_dir():  # else it was removed, as it takes room
            write_model_card(run, whole, facts)
        path = write_report(run, whole, facts)
    _tell_verdict(prefix, whole, facts)
    say(f"report:  {path}")


def _named(split: dict[str, Any]) -> str:
    return f"{split['where']} ({split['rows']:,} texts, fingerprint {split['fingerprint'][:8]})"


def _not_of_the_model(
    run: Path,
    facts: dict[str, Any],
    step: int,
    checkpoint: Path,
    model: BertClassifier,
    datamodule: YelpDataModule,
    trained: dict[str, Any],
) -> str | None:
    """Why metrics are not those of `model/`: other weights, texts read or decided otherwise; or None."""
    if facts and facts.get("step") != step:
        return f"model/, its card and the report are of step {facts.get('step')}, these of step {step}"
    kept = "best" if any((run / runs.CHECKPOINTS).glob("best*.ckpt")) else "last"
    if not facts and not checkpoint.stem.startswith(kept):  # the fit is unfinished
        return f"the run's own figures are those of {kept}.ckpt"
    if (bounds := model.hparams["clip"]) is not None:
        return f"model.clip is {bounds} here, and model/ does not clip"
    for key in READING:
        if datamodule.hparams[key] != trained["data"][key]:
            here, there = as_written(datamodule.hparams[key]), as_written(trained["data"][key])
            return f"data.{key} is {here} here, and was {there} in training"
    if (decide := model.hparams["decide"]) != trained["model"]["decide"]:
        return f"model.decide is {decide} here, and was {trained['model']['decide']} in training"
    return None


def with_texts(summary: dict[str, Any], split: Split) -> dict[str, Any]:
    """The summary with the text (shortened) and the source row of each entry."""

    def entry(found: dict[str, Any]) -> dict[str, Any]:
        row = split.texts[found["index"]]
        return {**found, "row": int(row["row"]), "text": shown_texts(row, MOST_LETTERS)}

    return {**summary, "mistakes": [entry(found) for found in summary["mistakes"]]}


def interval_tags(prefix: str, summary: dict[str, Any]) -> dict[str, float]:
    """The intervals of an evaluation's scores, `test/accuracy_low` and `_high`, ..., and its slices."""
    ends = summary.get("intervals", {}).get("scores", {})
    return slice_tags(prefix, summary) | {
        f"{prefix}/{name}_{end}": value
        for name, pair in ends.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }


def print_table(prefix: str, metrics: dict[str, Any], scores: tuple[Score, ...], title: str) -> None:
    """Print one line per score."""
    say(f"\n{title}")
    digits = {f"{prefix}/{score.name}": score.digits for score in console(scores)}
    tags = [tag for tag in digits if tag in metrics]
    column = max(16, *map(len, digits))
    for tag in tags:
        low, high = (metrics.get(f"{tag}_{end}") for end in ("low", "high"))
        span = "" if low is None or high is None else f"   {low:.{digits[tag]}f} to {high:.{digits[tag]}f}"
        say(f"  {tag:<{column}} {metrics[tag]:.{digits[tag]}f}{span}")


def print_decisions(summary: dict[str, Any]) -> None:
    """Print what each decision reaches, if the classes are steps of a scale."""
    if found := summary.get("decisions"):
        heads = ("--model.decide", "accuracy", "mae", "kappa")
        say("")
        for line in aligned([heads, *decision_rows(found)], left=(0, 1, 2, 3), indent="  "):
            say(line)
