"""A search from its settings to its page: the folder, the trials, the finals, what they leave."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lit_ft import runs
from lit_ft.classifier.data import YelpDataModule
from lit_ft.commands.default_space import default_space
from lit_ft.commands.finals import Final, run_finals
from lit_ft.commands.search_options import Options
from lit_ft.commands.search_results import Results, read_results
from lit_ft.commands.search_settings import Start, own_values, read_start, typed
from lit_ft.commands.study import Study, mend_journal
from lit_ft.commands.trials import Plan, Trials
from lit_ft.console import quiet, say
from lit_ft.errors import UserError, quoted
from lit_ft.reliability import run_owner
from lit_ft.settings.flags import run_name
from lit_ft.settings.space import Entry, read_space

SPACE = "space.yaml"
APART = ("--data.folds=5", "--data.fold=1")  # without test data: texts that no trial sees
# They change nothing that a trial learns: a search continues with other ones.
HARMLESS = {
    "data": {"predict_path", "predict_output", "predict_probabilities", "num_workers", "eval_batch_size"},
    "trainer": {"logger", "enable_progress_bar", "enable_model_summary", "default_root_dir", "profiler"},
}


def run_search(options: Options, keys: Sequence[str], command: str) -> int:
    """Search, and return the exit code.

    Args:
        options: The command's own flags, and those of `fit`.
        keys: The keys of `fit`.
        command: The command line, for a shell.
    """
    start = read_start(options.rest)
    space, text = read_values(options, start, keys)
    fold, apart = fold_of(start)
    name = run_name(start.config["name"], list(options.rest))
    print_of = fingerprint(start, space)
    folder = open_folder(name, print_of)
    own, outside = own_values(space, start)
    plan = Plan(
        folder=folder,
        args=(*start.args, *apart),
        space=tuple(space),
        own={} if outside else own,
        seed=start.seed,
        monitor=start.monitor,
        maximise=start.maximise,
        trials=options.trials,
        jobs=options.jobs,
    )
    runs.write(folder / SPACE, text)
    mend_journal(folder)
    study = Study(folder, plan.maximise)
    results = Results(plan, start, study, command, print_of)
    _introduce(plan, study, outside, bool(apart), many_processes(start))
    trials = Trials(plan, study, results.write)
    results.write()
    trials.run()
    if study.best() is None:
        results.write()
        failed = len(study.trials())
        raise UserError(
            f"none of the {failed} trials ended with a figure; their logs are in {folder / 'logs'}"
        )
    if options.seeds:
        results.finals = run_finals(Final(plan, plan.own, study, fold, options.seeds))
    results.write()
    for line in results.last_lines():
        say(line)
    return 0


def read_values(options: Options, start: Start, keys: Sequence[str]) -> tuple[list[Entry], str]:
    """The space with its types, and its text."""
    if options.space != "default":
        text = Path(os.path.expanduser(options.space)).read_text("utf-8")
        return typed(read_space(options.space, keys), start), text
    text = default_space(start, keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(text, encoding="utf-8")
        return typed(read_space(str(path), keys), start), text


def fold_of(start: Start) -> tuple[int | None, tuple[str, ...]]:
    """The fold that measures the finals, None for the test texts, and the flags that keep it from the trials.

    The validation texts choose the best checkpoint and the best trial: its figure on them is too good.
    """
    if start.config["data"]["fold"] is not None:
        return start.config["data"]["fold"], ()
    with quiet():
        data = YelpDataModule(**start.config["data"])
    if data.text_source.origin("test") is not None:
        return None, ()
    return 1, APART


def fingerprint(start: Start, space: Sequence[Entry]) -> str:
    """A hash of what a search depends on; the number of trials is not part of it."""
    kept = {
        group: {
            key: value for key, value in start.config[group].items() if key not in HARMLESS.get(group, ())
        }
        for group in ("data", "model", "trainer")
    }
    values = {entry.key: repr(entry.what) for entry in space}
    return run_owner.fingerprint({**kept, "seed": start.seed, "monitor": start.monitor, "space": values})


def open_folder(name: str, print_of: str) -> Path:
    """The newest search of these settings, or a new folder; locked for this process.

    Raises:
        UserError: The search is running.
    """
    folders = (runs.RUNS / name).glob("search_*")
    found = sorted(((int(p.name[7:]), p) for p in folders if p.name[7:].isdigit()), reverse=True)
    for _, path in found:
        if read_results(path).get("fingerprint") == print_of:
            folder = path
            break
    else:
        folder = runs.RUNS / name / f"search_{found[0][0] + 1 if found else 0}"
        folder.mkdir(parents=True)
    if (other := run_owner.owner(folder)) is not None:
        raise UserError(f"the search in {folder} is running: {other}; wait until it ends, or stop it")
    run_owner.own(folder)
    return folder


def many_processes(start: Start) -> bool:
    """Whether the settings ask for more than one process a trial, as far as they say."""
    devices = start.config["trainer"]["devices"]
    several = isinstance(devices, list) and len(devices) > 1 or str(devices).isdecimal() and int(devices) > 1
    return several or (start.config["trainer"]["num_nodes"] or 1) > 1


def _introduce(plan: Plan, study: Study, outside: Sequence[str], apart: bool, many: bool) -> None:
    """What is searched, and how, in a few lines."""
    better = "higher" if plan.maximise else "lower"
    done = sum(trial.state.is_finished() for trial in study.trials())
    at_once = f", {plan.jobs} at once" if plan.jobs > 1 else ""
    figure = f"{plan.monitor} ({better} is better)"
    say(f"search: {plan.folder}, {plan.trials} trials{at_once}, {figure}, seed {plan.seed}")
    for entry in plan.space:
        say(f"  {entry.key}: {entry.what}")
    if done:
        say(f"continued: {done} of {plan.trials} trials are done")
    if outside:
        say(f"your own settings are not among the trials: the space leaves out your {quoted(list(outside))}")
    if many:
        say("each trial has several processes: none is pruned, all are trained to their end")
    if apart:
        say(
            "no test data: a fifth of the training texts (data.folds=5, data.fold=1) is kept from all "
            "trials, and measures the best one and your settings at the end"
        )
