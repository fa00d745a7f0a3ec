"""`repeat`: the same fit with several seeds, on several folds, with several shares of the training texts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from lit_ft import runs
from lit_ft.commands.repeat_results import leave_repeat
from lit_ft.commands.repetition import fit_and_test, forget, missing, reached
from lit_ft.commands.several import LOGS, PLAN, Machine, Start, newest_with, start
from lit_ft.console import say, silence_libraries, warn
from lit_ft.errors import UserError
from lit_ft.machine import command_line
from lit_ft.progress import clock
from lit_ft.reliability import run_owner
from lit_ft.reliability.jobs import Ended, Job, Stopped
from lit_ft.report.pooled import Repetition
from lit_ft.report.tables import flat
from lit_ft.settings.arguments import configs_dir, flag_value
from lit_ft.settings.flags import Kept
from lit_ft.settings.shares import shares_of

KEEPS = {"model": "all but the checkpoints", "figures": "all but checkpoints and model"}
MOST_SEED = 2**32 - 1
MOST_LISTED = 5  # seeds in a line
OWN: dict[str, tuple[Any, Any]] = {
    "seeds": (int, 3),
    "folds": (int, 5),
    "shares": (str, "1"),
    "jobs": (int, 1),
    "keep": (Kept, "model"),
}


@dataclass
class Repeat:
    """The runs of one command.

    Attributes:
        start: The settings that they start from.
        folder: `runs/<name>/repeat_<n>`.
        repetitions: All of them, in the order in which they take place.
        folds: How many; 1 for none.
        keep: What stays of a run that has ended.
        left: Those that have not ended.
        failed: Those that failed now, and why.
    """

    start: Start
    folder: Path
    repetitions: list[Repetition]
    folds: int
    keep: Kept
    left: list[Repetition] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    def look(self) -> None:
        """Find out which have ended."""
        self.left = [one for one in self.repetitions if missing(one.folder, self.start.measured)]

    def jobs(self) -> Iterator[Job]:
        """Those that have not ended, each in a process of its own."""
        for one in tuple(self.left):
            flags = [f"--seed_everything={one.seed}", f"--data.train_share={one.share:.15g}"]
            if one.fold is not None:
                flags += [f"--data.folds={self.folds}", f"--data.fold={one.fold}"]
            call = [*self.start.args, *flags], one.folder, self.start.measured
            yield Job(one.told(), fit_and_test, call, self.folder / LOGS / f"{one.folder.name}.txt")


def main(command: str, args: list[str]) -> int:
    """Run `repeat` and return the exit code: 1 if a run failed."""
    silence_libraries()
    begun = start(command, args, OWN, _of_data)
    config = begun.config
    shares = shares_of(config.shares)
    repeat = _planned(begun, shares)
    run_owner.own(repeat.folder, else_="")
    try:
        repeat.look()
        _tell_plan(repeat, shares)
        if flag_value(args, "--keep") is not None:  # also of those that were done before
            for one in repeat.repetitions:
                if one not in repeat.left:
                    forget(one.folder, repeat.keep)
        try:
            _run(repeat, Machine(config.jobs, config.trainer.accelerator))
        except Stopped as stop:
            left = f"{len(repeat.left)} of {len(repeat.repetitions)} runs are left"
            warn(f"stopped: {left}; the same command does them")
            raise SystemExit(128 + stop.number) from None
        leave_repeat(repeat.folder, repeat.repetitions, _plan_of(repeat, args, shares))
    finally:
        run_owner.release()
    return 1 if repeat.failed else 0


def _of_data(config: Any) -> dict[str, Any]:
    """The data of the first run, which shows what is wrong with that of all."""
    for name in ("seeds", "folds", "jobs"):
        if config[name] < 1:
            raise UserError(
                f"expected --{name} of at least 1, found {config[name]}; set --{name}={OWN[name][1]}"
            )
    if config.seed_everything + config.seeds - 1 > MOST_SEED:
        raise UserError(
            f"expected {config.seeds} seeds below {MOST_SEED + 1}, found --seed_everything="
            f"{config.seed_everything}; set a lower one"
        )
    share = min(shares_of(config.shares))
    if config.folds == 1:
        return {"train_share": share}
    return {"folds": config.folds, "fold": 1, "train_share": share}


def _planned(begun: Start, shares: tuple[float, ...]) -> Repeat:
    """The runs, in the folder of the newest repeat with the same settings and data, or in a new one."""
    config = begun.config
    settings = begun.fingerprint({"folds": config.folds})
    folder = newest_with(begun.name, "repeat", settings)
    if folder is None:
        folder = runs.new_folder(begun.name, "repeat")
        runs.write(folder / PLAN, json.dumps({"settings": settings}) + "\n")
    folds = range(1, config.folds + 1) if config.folds > 1 else [None]
    repetitions = [
        Repetition(seed, fold, share, folder / _folder_name(seed, fold, share))
        for share in sorted(shares, reverse=True)
        for seed in range(config.seed_everything, config.seed_everything + config.seeds)
        for fold in folds
    ]
    return Repeat(begun, folder, repetitions, config.folds, config.keep)


def _folder_name(seed: int, fold: int | None, share: float) -> str:
    parts = [f"seed_{seed}", *([f"fold_{fold}"] if fold else [])]
    return "_".join([*parts, *([f"share_{share:.15g}"] if share < 1 else [])])


def _plan_of(repeat: Repeat, args: list[str], shares: tuple[float, ...]) -> dict[str, Any]:
    """What the page shows of the plan."""
    return {
        "command": command_line(["repeat", *args], configs_dir()),
        "name": repeat.start.name,
        "seeds": sorted({one.seed for one in repeat.repetitions}),
        "folds": repeat.folds if repeat.folds > 1 else None,
        "shares": list(shares),
        "settings": flat(repeat.start.settings),
        "failed": {path.name: error for path, error in repeat.failed.items()},
        "finished": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _tell_plan(repeat: Repeat, shares: tuple[float, ...]) -> None:
    seeds = sorted({one.seed for one in repeat.repetitions})
    listed = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > MOST_LISTED else ", ".join(map(str, seeds))
    parts = [f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({listed})"]
    parts += [f"{repeat.folds} folds"] if repeat.folds > 1 else []
    parts += (
        [f"{len(shares)} shares ({', '.join(f'{share:g}' for share in shares)})"] if len(shares) > 1 else []
    )
    done = len(repeat.repetitions) - len(repeat.left)
    ended = f", {done} of them done before" if done else ""
    say(f"repeat: {repeat.folder}: {' x '.join(parts)} = {len(repeat.repetitions)} runs{ended}")
    if not done and len(repeat.repetitions) > 3:
        say("the time it takes is known after the first run; --seeds, --folds and --jobs change it")
    if repeat.keep != "all" and done < len(repeat.repetitions):
        say(f"of a run that has ended {KEEPS[repeat.keep]} stays (--keep=all keeps checkpoints, too)")


def _run(repeat: Repeat, machine: Machine) -> None:
    """Run what has not ended, and say of each run what it reached."""
    left = {one.told(): one for one in repeat.left}
    num, took = len(left), list[tuple[float, float]]()
    try:
        for count, ended in enumerate(machine.run(repeat.jobs()), 1):
            one = left.pop(ended.job.name)
            if ended.code:
                repeat.failed[one.folder] = ended.error
                _tell_failure(repeat, ended)
                continue
            repeat.left.remove(one)
            machine.ended(one.folder)
            took.append((one.share, ended.seconds))
            rest = time_left(took, [other.share for other in left.values()], machine.jobs)
            after = f"; {count} of {num}, {rest} left" if left else ""
            say(f"{one.told()}: {reached(one.folder, repeat.start.measured)} ({clock(ended.seconds)}){after}")
            forget(one.folder, repeat.keep)
    except Stopped:
        before = repeat.left
        repeat.look()  # one may have been measured before the signal reached it
        for one in before:
            if one not in repeat.left:
                forget(one.folder, repeat.keep)
        raise


def time_left(took: Sequence[tuple[float, float]], left: Sequence[float], at_once: int) -> str:
    """`about 2:05`, or `at most 2:05` while a smaller share has not been run yet.

    With few texts a run takes its time to start and to measure, whatever it trains on: an unknown share is
    taken to last as long as the nearest that is known.

    Args:
        took: Share and seconds of the runs that have ended.
        left: Shares of the others.
        at_once: Runs at a time.
    """
    known: dict[float, list[float]] = {}
    for share, seconds in took:
        known.setdefault(share, []).append(seconds)
    nearest = [min(known, key=lambda one: abs(one - share)) for share in left]
    seconds = sum(fmean(known[one]) for one in nearest) / at_once
    smaller = any(share < one for share, one in zip(left, nearest, strict=True))
    return f"{'at most' if smaller else 'about'} {clock(seconds)}"


def _tell_failure(repeat: Repeat, ended: Ended) -> None:
    """Stop if nothing has worked so far; else go on with the others."""
    if len(repeat.left) == len(repeat.repetitions):
        raise UserError(f"{ended.job.name}: {ended.error} (its output: {ended.job.log})")
    warn(f"{ended.job.name} failed: {ended.error} (its output: {ended.job.log}); the others go on")
