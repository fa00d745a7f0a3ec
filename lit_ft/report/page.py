"""`report.html`: the templates filled from a run's files, with every text that is not ours escaped."""

import base64
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report import charts
from lit_ft.report.classifier_page import SCRIPT, classifier_values
from lit_ft.report.multi_label_page import tag_values
from lit_ft.report.regression_page import regression_values
from lit_ft.report.scores import CURVES, MASKED_LM
from lit_ft.report.tables import cell, duration, number, percent

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    """The templates, compiled once a process."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    environment.filters.update(number=number, percent=percent, duration=duration, cell=cell, coded=coded)
    return environment


def render(template: str, **values: Any) -> str:
    """Fill a template of the package; values are escaped in HTML templates."""
    return _environment().get_template(template).render(**values)


def coded(text: str) -> Markup:
    """A sentence in HTML, with flags, and what stands between backticks, as code."""
    marked = re.sub(r"`([^`]+)`|(--[\w.]+(?:=\w+)?)", r"<code>\1\2</code>", str(escape(text)))
    return Markup(marked)


MOST_POINTS = 400  # of a curve; the chart has no room for more


def read_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics and facts of a finished run.

    Raises:
        UserError: The folder holds no run, or an unfinished one.
    """
    metrics, facts = runs.read_metrics(run), runs.read_facts(run)
    if metrics and not facts:
        raise UserError(
            f"the fit of {run} is unfinished: resume with the same command and --ckpt_path last; "
            f"{runs.METRICS} has its figures so far"
        )
    if not metrics or "kind" not in facts:
        raise UserError(
            f"expected a finished run in {run}, with {runs.METRICS} and {runs.FACTS}, found "
            f"{'no such folder' if not run.is_dir() else 'none'}; give a folder such as runs/NAME/version_0"
        )
    return metrics, facts


# What the template of each kind of report shows, from its facts and metrics.
PAGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "classifier": lambda facts, metrics: {**classifier_values(facts, metrics), **scripted(SCRIPT)},
    "multi_label": lambda facts, metrics: {**tag_values(facts, metrics), **scripted(SCRIPT)},
    "regression": regression_values,
    "masked_lm": lambda facts, metrics: {"scores": MASKED_LM},
}


def write_report(run: Path, metrics: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Write a run's `report.html` from the contents of `metrics.json` and `report.json`; returns its path."""
    config = run / runs.CONFIG
    common = {
        "run": f"{run.absolute().parent.name}/{run.name}",
        "metrics": metrics,
        "facts": facts,
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "charts": draw_curves(read_curves(run), facts),
    }
    page = render(f"{facts['kind']}.html.j2", **common, **PAGES[facts["kind"]](facts, metrics))
    runs.write(run / runs.REPORT, page)
    return run / runs.REPORT


def scripted(script: str) -> dict[str, Any]:
    """A script for a page, and the hash by which the page's policy knows it: no other script runs."""
    digest = hashlib.sha256(script.encode()).digest()
    return {"script": Markup(script), "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}"}


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> points (step, value), without the points that a resume purged."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every purged point
    keep_no = dict.fromkeys(("images", "audio", "histograms", "compressedHistograms"), 1)
    events = EventAccumulator(str(run), size_guidance={**keep_no, "tensors": 1, "scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def draw_curves(
    found: dict[str, list[tuple[int, float]]], facts: dict[str, Any]
) -> dict[str, list[Markup]] | None:
    """The charts of `CURVES` that have points: `main` ones and `technical` ones; None without any.

    Those of a `fit` with several validations are drawn over its epochs, with the best one marked.
    """
    drawn: dict[str, list[Markup]] = {"main": [], "technical": []}
    history = facts.get("history", {})
    steps = {point["step"]: point["epoch"] for point in history.get("validation", [])}
    best = steps.get(facts.get("step")) if len(steps) > 1 else None  # one point is no curve
    for curve in CURVES:
        lines: dict[str, Any] = {label: found[tag] for label, tag in curve.lines.items() if found.get(tag)}
        if not curve.heading or not lines or facts["kind"] not in curve.kinds:
            continue
        if by_epoch := not curve.technical and best is not None:
            if curve.lines.get("training") == "train/loss" and history.get("train"):
                lines["training"] = [(point["epoch"], point["loss"]) for point in history["train"]]
            for label, tag in curve.lines.items():  # an event file has them a step earlier, as Lightning does
                if label in lines and tag.startswith("val/"):
                    validation = history["validation"]
                    lines[label] = [(p["epoch"], p[tag]) for p in validation if p.get(tag) is not None]
        lines = {label: thinned(points) for label, points in lines.items() if points}
        xlabel = "epoch" if by_epoch else "step"
        chart = charts.lines(lines, curve.heading, xlabel, best if by_epoch else None, by_epoch)
        drawn["technical" if curve.technical else "main"].append(Markup(chart))
    return drawn if any(drawn.values()) else None


def thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST_POINTS points: means of equal parts, so that a curve's noise does not alias."""
    if len(points) <= MOST_POINTS:
        return points
    parts = np.array_split(np.asarray(points, dtype=np.float64), MOST_POINTS)
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
