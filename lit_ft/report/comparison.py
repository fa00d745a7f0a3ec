"""Several runs side by side: the settings that differ, then the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report.page import render
from lit_ft.report.scores import SPLITS, compared_tags
from lit_ft.report.tables import aligned, flat, number

IGNORED = ("name", "data.predict_output", "trainer.default_root_dir")  # they do not change the results


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """The names of the runs, the settings that differ and the results, each with one value per run.

    Raises:
        UserError: A folder holds no finished run.
    """
    configs, metrics, facts = [], [], []
    for run in folders:
        if not (run / runs.METRICS).is_file() or not (run / runs.CONFIG).is_file():
            raise UserError(f"expected a finished run in {run}, with {runs.METRICS} and {runs.CONFIG}")
        configs.append(flat(yaml.safe_load((run / runs.CONFIG).read_text(encoding="utf-8"))))
        metrics.append(runs.read_metrics(run))
        facts.append(runs.read_facts(run))
    keys = dict.fromkeys(key for config in configs for key in config if key not in IGNORED)
    rows = [(key, [config.get(key) for config in configs]) for key in keys]
    rows = [(key, values) for key, values in rows if len(set(map(repr, values))) > 1]
    tags = [tag for tag in compared_tags() if any(tag in figures for figures in metrics)]
    results = [(tag, [figures.get(tag) for figures in metrics]) for tag in tags]
    for prefix, split in SPLITS.items():  # scores are comparable only if they were measured on the same texts
        if any(f"{prefix}/accuracy" in figures for figures in metrics):
            found = [run.get("splits", {}).get(split, {}).get("where") for run in facts]
            results.append((f"{prefix}/where", found))
    return {
        "runs": [f"{run.absolute().parent.name}/{run.name}" for run in folders],
        "settings": [(key, [_shown(value) for value in values]) for key, values in rows],
        "results": results,
    }


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write_comparison(compared: dict[str, Any], path: Path) -> None:
    """Write the table of `compare` as an HTML page."""
    tag, values = next(iter(compared["results"]), ("", []))
    known = [value for value in values if value is not None]
    summary = f"{tag} from {number(min(known))} to {number(max(known))}." if known else ""
    runs.write(path, render("comparison.html.j2", metrics={}, summary=summary, **compared))


def as_text(compared: dict[str, Any]) -> str:
    """The table of `compare` for a terminal."""
    rows = [["", *compared["runs"]]]
    rows += [[name, *values] for name, values in compared["settings"]] or [["no setting differs"]]
    rows += [[""]]
    rows += [[tag, *(number(value) for value in values)] for tag, values in compared["results"]]
    return "\n".join(aligned(rows))
