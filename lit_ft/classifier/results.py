"""What `fit`, `validate` and `test` leave in the run folder, and say at the end."""

from pathlib import Path
from typing import Any

from lightning import Trainer

from lit_ft import runs
from lit_ft.classifier.callbacks import Tracking
from lit_ft.classifier.dashboard import draw_evaluation
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.resume import READING, open_checkpoint
from lit_ft.classifier.tracking import RunLogger
from lit_ft.console import say
from lit_ft.data.facts import corpus_facts
from lit_ft.data.source import SplitName
from lit_ft.data.splits import Split
from lit_ft.errors import shorten, unusable
from lit_ft.models.export import export_model, say_where, weights_of
from lit_ft.models.names import shown_name
from lit_ft.report.analysis import summarise
from lit_ft.report.model_card import write_model_card
from lit_ft.report.page import write_report
from lit_ft.report.scores import SCALARS

MOST_LETTERS = 600  # of a text in a report: one screen of a phone


def leave_results(
    tracking: Tracking,
    trainer: Trainer,
    model: BertClassifier,
    datamodule: YelpDataModule,
    provenance: dict[str, Any],
    seconds: float,
) -> None:
    """Write `metrics.json`, `loss.png`, `model/` and `report.html` of a fit, and say where they are.

    Args:
        tracking: Of the fit.
        trainer: Which has ended.
        model: Its weights are the last step's.
        datamodule: With the splits that were read.
        provenance: From `machine.provenance`.
        seconds: The whole command took so far.
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
        "kind": "classifier",
        "labels": list(names),
        "pretrained": shown_name(model.hparams["pretrained"]),
        "from_hub": model.from_hub,
        "step": step,
        "temperature": checkpoint["temperature"],
        "max_tokens": settings["max_tokens"],
        "truncation": settings["truncation"],
        "splits": corpus_facts(datamodule.splits, datamodule.text_source, len(names)),
        "evaluations": {},
        **provenance,
    }
    if which == "best":
        at_best = [entry for entry in history.validation if entry["step"] == step][-1]
        metrics |= {tag: value for tag, value in at_best.items() if tag.startswith("val/")}
        summary = dict(tracking.dashboard.summaries[step])
        metrics |= {"val/step": step, "val/rows": summary["rows"]}
        if (matrix := summary.pop("confusion")) is not None:
            metrics["val/confusion_matrix"] = matrix
        facts["evaluations"]["val"] = with_texts(summary, datamodule.splits["validation"])
        print_table("val", metrics, f"best checkpoint (by {tracking.monitor}): step {step}")
    else:
        say("no validation took place: model/ holds the last weights")
    _keep_test(run, facts)
    # The figures first: an export or a picture that fails costs none of them.
    runs.add_metrics(run, metrics, without=lambda tag: tag.startswith("test/") and _test_step(run) != step)
    runs.add_facts(run, facts)
    # Not `temperature`: transformers 5.23 (configuration_utils.py, save_pretrained) takes that for a setting
    # of text generation, and refuses to save the config.
    model.net.config.calibration_temperature = checkpoint["temperature"] or 1.0
    cut = settings["max_tokens"], settings["truncation"]
    export_model(run, model.net, weights_of(checkpoint), datamodule.tokenizer, *cut)
    write_model_card(run)
    history.draw(run / runs.LOSS_CURVE)
    write_report(run)
    say_where(run)


def _test_step(run: Path) -> int | None:
    return runs.read_metrics(run).get("test/step")


def _keep_test(run: Path, facts: dict[str, Any]) -> None:
    """Take a test over that was made before the fit went on, where it is of the very same weights."""
    if _test_step(run) != facts["step"]:
        return
    before = runs.read_facts(run)
    for key, name in (("evaluations", "test"), ("splits", "test")):
        if name in before.get(key, {}):
            facts[key][name] = before[key][name]


def record_evaluation(
    run: Path | None,
    prefix: str,
    model: BertClassifier,
    datamodule: YelpDataModule,
    metrics: dict[str, Any],
    checkpoint: Path,
    trained: dict[str, Any],
) -> None:
    """Show what `validate` or `test` measured, and add it to the run that the checkpoint belongs to.

    Card, report and `val/...`, `test/...` are of the weights in `model/`, read as they were trained; figures
    of others are kept under tags of their own. TensorBoard gets the test's figures at the checkpoint's step;
    the validation's it has from `fit`. The Trainer would log both at step 0, a second point in the validation
    curves.

    Args:
        run: Of the checkpoint, None where it lies elsewhere.
        prefix: `val` or `test`.
        model: That was measured.
        datamodule: With the split.
        metrics: Tag -> figure, the confusion matrix and the step included.
        checkpoint: Where the weights came from.
        trained: The settings of the data that the checkpoint keeps.
    """
    assert datamodule.labels is not None
    print_table(prefix, metrics, str(checkpoint))
    if run is None:
        say("the checkpoint is in no run folder: metrics.json not written")
        return
    facts, outcomes = runs.read_facts(run), model.outcomes[prefix]
    metrics = {**metrics, f"{prefix}/rows": len(outcomes.labels)}
    if why := _not_of_the_model(run, facts, metrics[f"{prefix}/step"], checkpoint, datamodule, trained):
        stem = checkpoint.stem
        runs.add_metrics(run, {f"{stem}/{tag}": value for tag, value in metrics.items()})
        say(f"metrics: {run / runs.METRICS}, under {stem}/{prefix}/..., as {why}")
        return
    runs.add_metrics(run, metrics)
    names = datamodule.labels.names
    summary = summarise(
        outcomes.logits, outcomes.labels, outcomes.predicted, outcomes.index, model.temperature or 1.0
    )
    name: SplitName = "test" if prefix == "test" else "validation"
    split = datamodule.splits[name]
    say(f"metrics: {run / runs.METRICS}")
    if prefix == "test":
        logger, step = RunLogger(run), metrics["test/step"]
        shown = {tag: value for tag, value in metrics.items() if tag.removeprefix("test/") in SCALARS}
        logger.log_metrics(shown, step)
        confusion = metrics.get("test/confusion_matrix")
        draw_evaluation(logger.experiment, prefix, outcomes, summary, confusion, names, step)
        logger.finalize("success")
    if not facts:  # of a fit that was killed before its end
        return
    with unusable(f"{run / runs.FACTS}", "the figures are in metrics.json all the same"):
        now = corpus_facts({name: split}, datamodule.text_source, len(names))
        before = facts["splits"].get(name)
        if before and before["fingerprint"] != now[name]["fingerprint"]:
            say(f"{prefix}/... was of {_named(before)}, and is now of {_named(now[name])}")
        facts["evaluations"][prefix] = with_texts(summary, split)
        facts["splits"] |= now
        runs.add_facts(run, facts)
        if (run / runs.MODEL).is_dir():  # else it was removed, as it takes room
            write_model_card(run)
        path = write_report(run)
    say(f"report:  {path}")


def _named(split: dict[str, Any]) -> str:
    return f"{split['where']} ({split['rows']:,} texts, fingerprint {split['fingerprint'][:8]})"


def _not_of_the_model(
    run: Path,
    facts: dict[str, Any],
    step: int,
    checkpoint: Path,
    datamodule: YelpDataModule,
    trained: dict[str, Any],
) -> str | None:
    """Why figures are not those of `model/`: other weights, or texts that were read otherwise."""
    if facts and facts.get("step") != step:
        return f"model/, its card and the report are of step {facts.get('step')}, these of step {step}"
    kept = "best" if any((run / runs.CHECKPOINTS).glob("best*.ckpt")) else "last"
    if not facts and not checkpoint.stem.startswith(kept):  # the fit has not come to its end
        return f"the run's own figures are those of {kept}.ckpt"
    for key in READING:
        if datamodule.hparams[key] != trained[key]:
            return f"data.{key} is {datamodule.hparams[key]} here, and was {trained[key]} in training"
    return None


def with_texts(summary: dict[str, Any], split: Split) -> dict[str, Any]:
    """A summary whose entries carry their text, shortened, and their row in the source."""

    def entry(found: dict[str, Any]) -> dict[str, Any]:
        row = split.texts[found["index"]]
        return {**found, "row": int(row["row"]), "text": shorten(row["text"], MOST_LETTERS)}

    return {**summary, **{key: [entry(e) for e in summary[key]] for key in ("mistakes", "label_errors")}}


def print_table(prefix: str, metrics: dict[str, Any], title: str) -> None:
    """A line a figure."""
    say(f"\n{title}")
    for tag in (f"{prefix}/{name}" for name in SCALARS):
        if tag in metrics:
            say(f"  {tag:<16} {metrics[tag]:.4f}")
