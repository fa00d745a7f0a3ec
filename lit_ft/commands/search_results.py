"""What a search leaves: `search.json`, its page, and the best settings as a config for `fit`."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lit_ft import runs
from lit_ft.commands.search_settings import GROUPS, settings_of, value_of
from lit_ft.commands.study import LEAST_FOR_IMPORTANCE, PRUNED_AT, REASON, SECONDS, Study
from lit_ft.commands.trials import Plan, trial_folder
from lit_ft.report.search_page import write_search
from lit_ft.report.tables import number
from lit_ft.settings.arguments import config_values
from lit_ft.settings.config_file import read_config
from lit_ft.settings.space import Choices, Entry, as_flag

BEST = "best.yaml"
# Optuna's -> ours
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


class Results:
    """Writes what is known of a search.

    Args:
        plan: What the search does.
        study: Its journal.
        args: Flags of `fit` that the search started from.
        settings: The same as nested plain values.
        command: The command line.
    """

    def __init__(
        self, plan: Plan, study: Study, args: Sequence[str], settings: Mapping[str, Any], command: str
    ) -> None:
        self.plan, self.study = plan, study
        self.args, self.settings, self.command = args, settings, command
        self.finals: dict[str, Any] | None = runs.read_values(plan.folder / runs.SEARCH).get("finals")

    def facts(self) -> dict[str, Any]:
        """The contents of `search.json`."""
        plan, best = self.plan, self.study.best()
        trials = [self._trial(trial) for trial in self.study.trials()]
        finals = (
            self.finals if best is not None and (self.finals or {}).get("winner") == best.number else None
        )
        return {
            "name": f"{plan.folder.parent.name}/{plan.folder.name}",
            "command": self.command,
            "monitor": plan.monitor,
            "maximise": plan.maximise,
            "seed": plan.seed,
            "planned": plan.trials,
            "space": [self._entry(entry) for entry in plan.space],
            "trials": trials,
            "best": None if best is None else best.number,
            "importance": self.study.importance(),
            "least": LEAST_FOR_IMPORTANCE,
            "config": str(runs.shown(plan.folder / BEST)),
            "finals": finals,
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        what: dict[str, Any] = {
            "key": entry.key,
            "text": str(entry.what),
            "own": value_of(self.settings, entry.key),
        }
        if isinstance(entry.what, Choices):
            return what | {"values": list(entry.what.values)}
        return what | {"low": entry.what.low, "high": entry.what.high, "log": entry.what.log}

    def _trial(self, trial: Any) -> dict[str, Any]:
        return {
            "number": trial.number,
            "state": STATES[trial.state.name],
            "value": trial.value,
            "values": dict(trial.params),
            "seconds": trial.user_attrs.get(SECONDS),
            "reason": trial.user_attrs.get(REASON, ""),
            "pruned_at": trial.user_attrs.get(PRUNED_AT),
            "own": bool(self.plan.own) and trial.params == self.plan.own,
            "folder": trial_folder(self.plan.folder, trial.number).name,
        }

    def write(self) -> None:
        """Write all three files."""
        facts = self.facts()
        facts = runs.write_values(self.plan.folder / runs.SEARCH, facts)
        write_search(self.plan.folder, facts)
        if facts["best"] is not None:
            runs.write(self.plan.folder / BEST, self.best_config(facts))

    # ---- best.yaml -------------------------------------------------------------------------------

    def best_config(self, facts: Mapping[str, Any]) -> str:
        """The start's config with the best trial's values, and in its first lines what they are worth."""
        trial = facts["trials"][facts["best"]]
        path = runs.shown(self.plan.folder / BEST)
        tried = sum(one["value"] is not None for one in facts["trials"])
        lines = [
            f"The best settings of the search {facts['name']}, found by trial {trial['number']} of {tried}.",
            f"  python -m lit_ft fit --config {path}",
            f"There: {facts['monitor']} {number(trial['value'])}, which is too good: the best of {tried} is "
            "also the luckiest.",
            f"The search: {facts['command']}",
        ]
        worth = facts["finals"]["sentence"] if facts["finals"] else f"{runs.SEARCH_REPORT} says it when known"
        lines.insert(3, f"What it is worth: {worth}.")
        keys = self._keys()
        nested: dict[str, Any] = {"name": self.plan.folder.parent.name}
        for group, value in settings_of(self.args, trial["values"]).items():
            if group in GROUPS and group not in keys:
                value = {name: inner for name, inner in value.items() if f"{group}.{name}" in keys}
            if group != "name" and (value if group in GROUPS else group in keys):
                nested[group] = value
        text = yaml.safe_dump(nested, sort_keys=False, allow_unicode=True, width=100)
        return "".join(f"# {line}\n" for line in lines) + text

    def _keys(self) -> set[str]:
        """What the start's configs and flags set, and what was searched, as `group.name`."""
        args = list(self.args)
        given = {arg.partition("=")[0].removeprefix("--").rstrip("+") for arg in args if arg.startswith("--")}
        for _, _, path in config_values(args):
            config = read_config(path)
            given |= {key for key in config.lines if key not in GROUPS}
        given |= {entry.key for entry in self.plan.space}
        return {".".join(key.split(".")[:2]) for key in given - {"config", "c"}}

    # ---- the terminal --------------------------------------------------------------------------------

    def last_lines(self) -> list[str]:
        """The best trial, what it is worth, and how to use it."""
        facts = self.facts()
        trial = facts["trials"][facts["best"]]
        values = " ".join(f"{key}={as_flag(value)}" for key, value in trial["values"].items())
        figure = f"{facts['monitor']} {number(trial['value'])} (optimistic)"
        lines = [f"best: trial {trial['number']}, {figure}; {values}"]
        if facts["finals"] is not None:
            lines.append(facts["finals"]["sentence"])
        folder = self.plan.folder
        return [*lines, f"config: {folder / BEST}", f"report: {folder / runs.SEARCH_REPORT}"]
