"""`search`: trials of other settings, compared on the validation texts; then the best one with new seeds."""

import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_ft import runs
from lit_ft.classifier.callbacks import mode_of
from lit_ft.classifier.data import YelpDataModule
from lit_ft.commands.default_space import default_space
from lit_ft.commands.early import known_keys
from lit_ft.commands.search_settings import JOURNAL, own_values, plain, typed, value_of
from lit_ft.commands.several import LOGS, PLAN, Machine, Start, newest_with, start
from lit_ft.console import say, silence_libraries, warn
from lit_ft.errors import UserError
from lit_ft.machine import command_line
from lit_ft.reliability import run_owner
from lit_ft.reliability.jobs import Stopped
from lit_ft.settings.arguments import configs_dir
from lit_ft.settings.space import Entry, as_flag, combinations, read_space

SPACE, DEFAULT = "space.yaml", "default"
OWN: dict[str, tuple[Any, Any]] = {
    "space": (str, DEFAULT),
    "trials": (int, 20),
    "seeds": (int, 3),
    "jobs": (int, 1),
}
FEW = 200  # validation texts: one accuracy of so many is known to 7 points
APART = {"folds": 5, "fold": 1}  # without test data: texts that no trial sees


def main(command: str, args: list[str]) -> int:
    """Run `search` and return the exit code."""
    silence_libraries()
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            "search needs the library optuna, which is not installed; run: pip install -c constraints.txt "
            "-e '.[search]'"
        )
    begun = start(command, args, OWN, _of_data)
    settings = plain(_of_fit(begun.config))
    space, text = read_values(begun, settings)
    maximise = mode_of(begun.config.monitor, _labels(begun)) == "max"
    folder = open_folder(begun, space, settings, text)
    try:
        _run(begun, settings, space, maximise, folder, command_line([command, *args], configs_dir()))
    except Stopped as stop:
        warn(f"stopped: the same command continues the search in {folder}")
        raise SystemExit(128 + stop.number) from None
    finally:
        run_owner.release()
    return 0


def _of_data(config: Any) -> dict[str, Any]:
    """The data of the trials: without a fold if there is nothing else that can measure the best."""
    for name, least in (("trials", 1), ("seeds", 0), ("jobs", 1)):
        if config[name] < least:
            raise UserError(
                f"expected --{name} of at least {least}, found {config[name]}; set --{name}={OWN[name][1]}"
            )
    if config.space != DEFAULT:
        read_space(config.space, known_keys("fit"))  # before the texts are read
    source = YelpDataModule(**config.data.as_dict()).text_source
    return {} if source.origin("test") is not None else dict(APART)


def _of_fit(config: Any) -> Any:
    """The parsed settings without the search's own."""
    found = config.clone()
    for name in (*OWN, "config"):
        found.pop(name, None)
    return found


def _labels(begun: Start) -> Any:
    assert begun.data.labels is not None
    return begun.data.labels


def read_values(begun: Start, settings: dict[str, Any]) -> tuple[list[Entry], str]:
    """The space with its types, and its text."""
    keys, given = known_keys("fit"), begun.config.space
    if given != DEFAULT:
        text = Path(os.path.expanduser(given)).read_text("utf-8")
        return typed(read_space(given, keys), begun.args, begun.check), text
    text = default_space(settings, _labels(begun).task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SPACE
        path.write_text(text, encoding="utf-8")
        return typed(read_space(str(path), keys), begun.args, begun.check), text


def open_folder(begun: Start, space: Sequence[Entry], settings: dict[str, Any], text: str) -> Path:
    """The newest search of these settings and data, or a new folder; locked for this process.

    Raises:
        UserError: The search is running.
    """
    kept = {
        "space": {entry.key: repr(entry.what) for entry in space},
        "seed": begun.config.seed_everything,
        "callbacks": settings["trainer"]["callbacks"],
    }
    print_of = begun.fingerprint(kept)
    folder = newest_with(begun.name, "search", print_of)
    if folder is not None and not (folder / JOURNAL).is_file() and any(folder.glob("trial_*")):
        warn(f"{folder} has lost its {JOURNAL}, which says what its trials are: a new search begins")
        folder = None
    folder = folder or runs.new_folder(begun.name, "search")
    if (other := run_owner.owner(folder)) is not None:
        raise UserError(f"the search in {folder} is running: {other}; wait until it ends, or stop it")
    run_owner.own(folder, else_="")
    runs.write(folder / PLAN, json.dumps({"settings": print_of}) + "\n")
    runs.write(folder / SPACE, text)
    return folder


def _run(
    begun: Start,
    settings: dict[str, Any],
    space: Sequence[Entry],
    maximise: bool,
    folder: Path,
    command: str,
) -> None:
    """Trials, finals, and what they leave."""
    from lit_ft.commands.finals import Final, run_finals  # these import Optuna
    from lit_ft.commands.search_results import Results
    from lit_ft.commands.study import Study, mend_journal
    from lit_ft.commands.trials import Plan, Trials

    config, fold = begun.config, begun.data.hparams["fold"]
    apart = [f"--data.{key}={value}" for key, value in APART.items()] if fold else []
    own, outside = own_values(space, begun.args, settings)
    room = combinations(space)
    trials = config.trials if room is None else min(config.trials, room)
    plan = Plan(
        folder=folder,
        args=(*begun.args, *apart),
        space=tuple(space),
        own={} if outside else own,
        seed=config.seed_everything,
        monitor=config.monitor,
        maximise=maximise,
        trials=trials,
        machine=Machine(config.jobs, config.trainer.accelerator),
    )
    mend_journal(folder)
    study = Study(folder, maximise)
    results = Results(plan, study, begun.args, settings, command)
    done = sum(trial.state.is_finished() for trial in study.trials())
    many = _has_many_processes(settings)
    outside = [f"{key}={as_flag(value_of(settings, key))}" for key in outside]
    for line in _introduction(plan, config.trials, done, outside, bool(fold), many):
        say(line)
    if (texts := len(begun.data.splits["validation"].rows)) < FEW and plan.trials > 1:
        warn(
            f"only {texts} validation texts choose among {plan.trials} trials: much of that is luck; hold "
            "out more (--data.validation_share), or give a validation file"
        )
    Trials(plan, study, results.write).run()
    if study.best() is not None and config.seeds:
        results.finals = run_finals(Final(plan, study, fold, config.seeds))
    results.write()
    if study.best() is None:
        raise UserError(
            f"none of {len(study.trials())} trials ended with a figure; their output is in {folder / LOGS}"
        )
    for line in results.last_lines():
        say(line)


def _has_many_processes(settings: dict[str, Any]) -> bool:
    """Whether the settings ask for more than one process a trial, as far as they say."""
    devices = settings["trainer"]["devices"]
    several = isinstance(devices, list) and len(devices) > 1 or str(devices).isdecimal() and int(devices) > 1
    return several or (settings["trainer"]["num_nodes"] or 1) > 1


def _introduction(
    plan: Any, wanted: int, done: int, outside: Sequence[str], apart: bool, many: bool
) -> list[str]:
    """What is searched, and how, in a few lines."""
    better = "higher" if plan.maximise else "lower"
    at_once = f", {plan.machine.jobs} at a time" if plan.machine.jobs > 1 else ""
    figure = f"{plan.monitor} ({better} is better)"
    lines = [f"search: {plan.folder}, {plan.trials} trials{at_once}, {figure}, seed {plan.seed}"]
    lines += [f"  {entry.key}: {entry.what}" for entry in plan.space]
    if plan.trials < wanted:
        lines.append(
            f"the space has no more than {plan.trials} combinations of values: --trials={wanted} is cut"
        )
    if done:
        of = f"{done} of {plan.trials}" if done < plan.trials else f"all {done}"
        lines.append(f"continued: {of} trials are done")
    if outside:
        left = ", ".join(outside)
        lines.append(f"your own settings are not among the trials: the space leaves out your {left}")
    if many:
        lines.append("each trial has several processes: none is pruned, all are trained to their end")
    if apart:
        lines.append(
            "no test data: a fifth of the training texts (data.folds=5, data.fold=1) is kept from all "
            "trials, and measures the best one and your settings at the end"
        )
    return lines
