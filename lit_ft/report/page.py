"""`report.html`: the templates filled from a run's files, with every text that is not ours escaped."""

import base64
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report import figures
from lit_ft.report.analysis import MOST_IN_MATRIX, per_class
from lit_ft.report.scores import CLASSIFIER, CURVES, MASKED_LM, SPLITS
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
    environment.filters.update(number=number, percent=percent, duration=duration, cell=cell)
    return environment


def render(template: str, **values: Any) -> str:
    """Fill a template of the package; values are escaped in HTML templates."""
    return _environment().get_template(template).render(**values)


def picture(svg: bytes) -> str:
    """An SVG as the address of an <img>, where no script in it can run."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"


MOST_LISTED = 200  # classes that get a row of the table
MOST_POINTS = 400  # of a curve; the picture has no room for more


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


def write_report(run: Path, metrics: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Write a run's `report.html` from the contents of `metrics.json` and `report.json`; returns its path."""
    config = run / runs.CONFIG
    common = {
        "run": f"{run.absolute().parent.name}/{run.name}",
        "metrics": metrics,
        "facts": facts,
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "curves": draw_curves(read_curves(run)),
    }
    if facts["kind"] == "masked_lm":
        page = render("masked_lm.html.j2", **common, scores=MASKED_LM)
    else:
        page = render("classifier.html.j2", **common, **_classifier_values(facts, metrics))
    runs.write(run / runs.REPORT, page)
    return run / runs.REPORT


def _classifier_values(facts: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    names = facts["labels"]
    evaluations = {}
    for prefix, split in SPLITS.items():
        if prefix in facts["evaluations"]:
            evaluation = dict(facts["evaluations"][prefix])
            classes = per_class(evaluation["class_counts"])
            order = list(range(len(names)))
            if len(names) > MOST_LISTED:  # the worst ones
                order = sorted(order, key=lambda c: classes[c]["f1"])[:MOST_LISTED]
            evaluation["classes"] = [(names[c], classes[c]) for c in order]
            evaluation["confusion"] = metrics.get(f"{prefix}/confusion_matrix")
            evaluation["charts"] = [
                (chart.alt, picture(figures.as_svg(drawn)))
                for chart in figures.EVALUATION
                if chart.in_report and (drawn := chart.draw({**evaluation, "names": names})) is not None
            ]
            evaluation["where"] = facts["splits"][split]["where"]
            evaluations[prefix] = evaluation
    histogram = facts["splits"].get("train", {}).get("histogram")
    lengths = figures.token_lengths(histogram, facts["max_tokens"]) if histogram else None
    return {
        "names": names,
        "evaluations": evaluations,
        "main": next(iter(evaluations), None),
        "words": SPLITS,
        "scores": [s for s in CLASSIFIER if any(f"{prefix}/{s.name}" in metrics for prefix in evaluations)],
        "most_in_matrix": MOST_IN_MATRIX,
        "lengths": picture(figures.as_svg(lengths)) if lengths else None,
    }


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> points (step, value), without the points that a resume purged."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every purged point
    keep_no = dict.fromkeys(("images", "audio", "histograms", "compressedHistograms"), 1)
    events = EventAccumulator(str(run), size_guidance={**keep_no, "tensors": 1, "scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def draw_curves(found: dict[str, list[tuple[int, float]]]) -> list[tuple[str, str]]:
    """The heading and picture of each of `CURVES` that has points."""
    drawn = []
    for curve in CURVES:
        lines = {label: thinned(found[tag]) for label, tag in curve.lines.items() if found.get(tag)}
        if curve.heading and lines:
            svg = figures.as_svg(figures.curves(lines, curve.heading, curve.ylabel))
            drawn.append((curve.heading, picture(svg)))
    return drawn


def thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST_POINTS points: means of equal parts, so that a curve's noise does not alias."""
    if len(points) <= MOST_POINTS:
        return points
    parts = np.array_split(np.asarray(points, dtype=np.float64), MOST_POINTS)
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
