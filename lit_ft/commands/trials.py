"""The trials of a search: each is an ordinary `fit` in a process of its own, told in a line when it ends."""

import itertools
import math
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from lit_ft import runs
from lit_ft.classifier.pruning import Pruning
from lit_ft.commands.repetition import fit_and_test, forget
from lit_ft.commands.search_settings import flags_of
from lit_ft.commands.several import LOGS, Machine
from lit_ft.commands.study import PRUNED_AT, SECONDS, Judge, Study, propose, seed_of
from lit_ft.console import say, warn
from lit_ft.errors import UserError
from lit_ft.reliability.jobs import Ended, Job
from lit_ft.report.tables import duration, number
from lit_ft.settings.space import Entry, as_flag, combinations

FAILURES = 3  # from the first trial on: then the settings are wrong, not the trials
ATTEMPTS = 20  # to find values that were not tried yet
MOST_LISTED = 5_000  # combinations of values that are looked through after so many attempts
INTERRUPTED = (130, 143, -2, -15)  # exit codes after Ctrl-C and SIGTERM
WITHOUT_BASELINES = "--baselines=false"  # they are the same in all trials, and take time in each


@dataclass(frozen=True)
class Plan:
    """What a search does.

    Attributes:
        folder: Its folder, `runs/<name>/search_<n>`.
        args: The command line of `fit` that each trial has, before its own values.
        space: What is searched.
        own: The start's own values if they lie in the space, which trial 0 then has; else empty.
        seed: Of the trials and of the sampler.
        monitor: The validation figure by which trials are compared.
        maximise: Whether it is better when it is high.
        trials: How many trials there are to be, with those that failed or were pruned.
        machine: Runs them, some at a time.
    """

    folder: Path
    args: tuple[str, ...]
    space: tuple[Entry, ...]
    own: dict[str, Any]
    seed: int
    monitor: str
    maximise: bool
    trials: int
    machine: Machine


def run_trial(args: list[str], run: Path, search: Path, number: int, monitor: str, maximise: bool) -> int:
    """Train one trial, in its own process: resumed if it was interrupted; reported, and pruned.

    Args:
        args: The command line of `fit`.
        run: Its run folder.
        search: The folder of the search.
        number: Of the trial.
        monitor: The validation figure.
        maximise: Whether it is better when it is high.
    """
    judge = Judge(search, number, maximise)
    return fit_and_test(args, run, (), [Pruning(monitor, judge.report)])


def trial_folder(search: Path, number: int) -> Path:
    """The run folder of a trial."""
    return search / f"trial_{number:03d}"


class Trials:
    """Proposes, runs and ends the trials of a plan.

    Args:
        plan: The plan.
        study: Its journal.
        noted: Called after each trial, to write what is known.
    """

    def __init__(self, plan: Plan, study: Study, noted: Callable[[], None] = lambda: None) -> None:
        self.plan, self.study, self.noted = plan, study, noted
        self._numbers: dict[str, int] = {}  # name of a job -> number of its trial
        self._said = False  # that weights are removed
        self._exhausted = False  # no values are left
        self._mistake = False  # one that all trials would make

    def run(self) -> None:
        """Run what is missing of the trials.

        Raises:
            UserError: The first trials fail: the settings are wrong for all.
        """
        self.noted()
        jobs = self.plan.machine.run(self._jobs())
        try:
            for ended in jobs:
                self._end(self._numbers[ended.job.name], ended)
                self.noted()
        finally:
            if isinstance(jobs, Generator):
                jobs.close()  # ends what still runs
            if self._mistake:
                shutil.rmtree(self.plan.folder)  # nothing was learnt: a mistake leaves nothing behind

    def _jobs(self) -> Iterator[Job]:
        """The trials that were interrupted, then new ones, each proposed when its place is free."""
        for trial in self.study.trials():
            if not trial.state.is_finished():
                say(f"trial {trial.number} was interrupted, and resumes: {self._shown(trial)}")
                yield self._job(trial)
        while len(self.study.trials()) < self.plan.trials:
            values = self._next_values()
            if values is None:
                return
            yield self._job(self.study.begin(values, self.plan.space))

    def _next_values(self) -> dict[str, Any] | None:
        """Values that no trial had; None if the sampler finds none. The first trial has the start's own."""
        history = self.study.trials()
        if not history and self.plan.own:
            return self.plan.own
        tried = [trial.params for trial in history]
        for attempt in range(ATTEMPTS):
            values = propose(history, self.plan.space, self.plan.seed, self.plan.maximise, attempt)
            if values not in tried:
                return values
        room = combinations(self.plan.space)
        left = [] if room is None or room > MOST_LISTED else self._untried(tried)
        if left:  # the sampler dwells on what is good
            return left[seed_of(self.plan.seed, len(history)) % len(left)]
        self._exhausted = True
        say(f"no values are left that were not tried: the search ends after {len(history)} trials")
        return None

    def _untried(self, tried: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """All values of a small space that no trial had."""
        lists = [entry.what.listed() for entry in self.plan.space]
        keys = [entry.key for entry in self.plan.space]
        every = (dict(zip(keys, values, strict=True)) for values in itertools.product(*lists))
        return [values for values in every if values not in tried]

    def _job(self, trial: FrozenTrial) -> Job:
        plan, run = self.plan, trial_folder(self.plan.folder, trial.number)
        args = [*plan.args, WITHOUT_BASELINES, *flags_of(trial.params)]
        job = Job(
            f"trial {trial.number}",
            run_trial,
            (args, run, plan.folder, trial.number, plan.monitor, plan.maximise),
            plan.folder / LOGS / f"{run.name}.txt",
        )
        self._numbers[job.name] = trial.number
        return job

    # ---- the end of a trial ------------------------------------------------------------------------

    def _end(self, number: int, ended: Ended) -> None:
        if ended.code in INTERRUPTED:
            warn(f"trial {number} was stopped; the same command resumes it")
            return
        run = trial_folder(self.plan.folder, number)
        value = runs.read_metrics(run).get(self.plan.monitor) if ended.code == 0 else None
        if value is None or not math.isfinite(value):
            self._fail(number, ended, run)
            return
        self.plan.machine.ended(run)
        trial = self.study.end(number, value, ended.seconds)
        figure = f"{self._figure(trial)}, {duration(ended.seconds)}"
        say(f"trial {number}: {figure}; {self._shown(trial)}{self._left()}")
        self._make_room()

    def _fail(self, number: int, ended: Ended, run: Path) -> None:
        """Note a failed trial; a mistake that all would make ends the search."""
        reason = ended.error or f"exit code {ended.code}, see {runs.shown(ended.job.log)}"
        if ended.code == 0:
            reason = f"{self.plan.monitor} is not finite"
        known = self.study.trials()
        first = number == 0 and bool(self.plan.own)
        if first and ended.code == 2 and not (run / runs.CONFIG).is_file():  # written when training starts
            self._mistake = True
            raise UserError(reason)
        trial = self.study.end(number, None, ended.seconds, reason)
        warn(f"trial {number} failed and is passed over: {reason}; {self._shown(trial)}")
        self._remove_weights(run)
        states = [t.state.name for t in known if t.state.is_finished()]
        if len(states) + 1 >= FAILURES and set(states) <= {"FAIL"}:
            self.noted()
            raise UserError(f"the first {len(states) + 1} trials failed, the last one with: {reason}")

    def _figure(self, trial: FrozenTrial) -> str:
        """`val/loss 0.912 (best 0.874 of trial 3)`."""
        text = f"{self.plan.monitor} {number(trial.value)}"
        if PRUNED_AT in trial.user_attrs:
            text += f", pruned after {trial.user_attrs[PRUNED_AT]:.0f} % of the run"
        best = self.study.best()
        if best is None:
            return text
        if best.number == trial.number:
            return f"{text} (the best so far)"
        return f"{text} (best {number(best.value)} of trial {best.number})"

    def _shown(self, trial: FrozenTrial) -> str:
        return " ".join(f"{key}={as_flag(value)}" for key, value in trial.params.items())

    def _left(self) -> str:
        """`; about 12 min left`, by the mean of the trials so far."""
        trials = self.study.trials()
        took = [t.user_attrs[SECONDS] for t in trials if SECONDS in t.user_attrs]
        planned = len(trials) if self._exhausted else self.plan.trials
        left = planned - len([t for t in trials if t.state.is_finished()])
        if not took or left <= 0:
            return ""
        rounds = math.ceil(left / self.plan.machine.jobs)
        return f"; about {duration(rounds * sum(took) / len(took))} left"

    def _make_room(self) -> None:
        """Remove the weights of trials that are not the best; what they were trained with stays."""
        best = self.study.best()
        for trial in self.study.trials():
            if trial.state.is_finished() and (best is None or trial.number != best.number):
                self._remove_weights(trial_folder(self.plan.folder, trial.number))

    def _remove_weights(self, run: Path) -> None:
        gone = any((run / name).is_dir() for name in (runs.CHECKPOINTS, runs.MODEL))
        forget(run, "figures")
        if gone and not self._said:
            self._said = True
            say(
                "the weights of trials that are not the best are removed; their figures and reports stay, "
                f"and `fit --config {runs.shown(run / runs.CONFIG)}` repeats one"
            )
