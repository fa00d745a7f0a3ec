"""The study of a search: Optuna's sampler, median rule and journal, without its own state in memory.

Everything that a search knows stands in the journal, so that a killed one continues. What the sampler
proposes depends on the journal's trials, the seed and the trial's number alone.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lit_ft.commands.search_settings import JOURNAL
from lit_ft.errors import UserError
from lit_ft.settings.config_file import as_found
from lit_ft.settings.space import Choices, Entry, Range

NAME = "search"  # of the only study in a journal
RANDOM_TRIALS = 10  # TPE's own default: before it knows these, it draws at random
COMPARED_TRIALS = 4  # finished ones that the median rule needs: the median of fewer is luck
UNTOUCHED = 30  # percent of a run before which none is pruned: its learning rate has hardly risen
GRID = 5  # percent: runs with other batch sizes or epochs validate at other places, and are compared on these
GIVE_UP = "remove the file, and the same command begins a new search"
PRUNED_AT, REASON, SECONDS = "pruned_at", "reason", "seconds"  # attributes of a trial


def quiet_optuna() -> None:
    """Keep Optuna's own log and its notes on experimental features off the console."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def distribution(what: Range | Choices) -> BaseDistribution:
    """What Optuna calls a range or a list."""
    if isinstance(what, Choices):
        return CategoricalDistribution(what.values)
    if what.whole:
        return IntDistribution(int(what.low), int(what.high), log=what.log, step=int(what.step or 1))
    return FloatDistribution(float(what.low), float(what.high), log=what.log, step=what.step)


def seed_of(*numbers: int) -> int:
    """The sampler's seed for one trial: a hash, so that neighbouring seeds have nothing in common."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")


def propose(
    history: Sequence[FrozenTrial], space: Sequence[Entry], seed: int, maximise: bool, attempt: int = 0
) -> dict[str, Any]:
    """The values of the next trial: TPE (Bergstra et al. 2011), seeded anew.

    Args:
        history: All trials so far. One that still runs counts as bad, so that others look elsewhere.
        space: What is searched.
        seed: Of the search.
        maximise: Whether a high figure is good.
        attempt: Counts the proposals for this trial, if one was tried before.

    Returns:
        Key -> value; of choices the text.
    """
    own_seed = seed_of(seed, len(history), attempt)
    sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize" if maximise else "minimize", sampler=sampler)
    study.add_trials(history)
    drawn = study.ask({entry.key: distribution(entry.what) for entry in space}).params
    whats = {entry.key: entry.what for entry in space}
    return {
        key: what.rounded(drawn[key]) if isinstance(what, Range) else drawn[key]
        for key, what in whats.items()
    }


class Study:
    """A search's journal.

    Args:
        folder: The folder of the search, which this process owns.
        maximise: Whether a high figure is good.

    Raises:
        UserError: The journal is damaged.
    """

    def __init__(self, folder: Path, maximise: bool) -> None:
        quiet_optuna()
        self.folder, self.maximise = folder, maximise
        self.path = folder / JOURNAL
        try:
            self._study = optuna.create_study(
                study_name=NAME,
                storage=JournalStorage(JournalFileBackend(str(self.path))),
                direction="maximize" if maximise else "minimize",
                load_if_exists=True,
                pruner=median_pruner(),
            )
        except (LookupError, ValueError, TypeError, AttributeError) as error:  # a line is missing
            line = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.path}: Optuna cannot read its journal ({line}); {GIVE_UP}") from error
        known, there = len(self.trials()), len(list(folder.glob("trial_*")))
        if there > known:  # a trial is noted before it has a folder
            found = f"found {known} for the {there} trial folders beside it"
            raise UserError(f"{self.path}: expected a note of each trial, {found}; {GIVE_UP}")

    def trials(self) -> list[FrozenTrial]:
        """All trials in their order."""
        return self._study.get_trials(deepcopy=False)

    def begin(self, values: Mapping[str, Any], space: Sequence[Entry]) -> FrozenTrial:
        """Add a trial that runs: one line of the journal, so that a kill leaves it whole or not at all."""
        trial = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(values),
            distributions={entry.key: distribution(entry.what) for entry in space},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        self._study.add_trial(trial)
        return self.trials()[-1]

    def end(self, number: int, value: float | None, seconds: float, reason: str = "") -> FrozenTrial:
        """Note the end of a trial: finished with its figure, pruned, or failed with a reason.

        Args:
            number: Of the trial.
            value: Its figure; None if it failed.
            seconds: What it took.
            reason: Why it failed.
        """
        storage = self._study._storage
        trial = self.trials()[number]
        storage.set_trial_user_attr(trial._trial_id, SECONDS, round(seconds, 1))
        if value is None:
            storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            state, values = TrialState.FAIL, None
        elif PRUNED_AT in trial.user_attrs:
            state, values = TrialState.PRUNED, [value]
        else:
            state, values = TrialState.COMPLETE, [value]
        storage.set_trial_state_values(trial._trial_id, state, values)
        return self.trials()[number]

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best figure; the earliest of equals."""
        finished = [trial for trial in self.trials() if trial.state is TrialState.COMPLETE]
        sign = -1 if self.maximise else 1
        return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def importance(self) -> dict[str, float] | None:
        """How much of the figures' variance each setting explains (fANOVA); None of too few trials."""
        finished = [trial for trial in self.trials() if trial.state is TrialState.COMPLETE]
        if len(finished) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in finished}) < 2:
            return None
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # Optuna 5.0: no tree of the forest found any difference
            return None
        return {key: float(value) for key, value in found.items()}


LEAST_FOR_IMPORTANCE = 8  # finished trials; with fewer, the forest's shares change with each one


def mend_journal(folder: Path) -> None:
    """Cut off half a line that a power cut left, and remove the lock of a process that was killed.

    Only the owner of the folder calls this, before any trial runs. Optuna 5.0 (storages/journal/_file.py)
    would append to the half line, and would wait 30 s for the lock.

    Raises:
        UserError: Another line is no line of Optuna's.
    """
    path = folder / JOURNAL
    text = path.read_bytes() if path.is_file() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)
    for i, line in enumerate(text.split(b"\n")[:-1], 1):
        try:
            known = "op_code" in json.loads(line)
        except (ValueError, TypeError):
            known = False
        if not known:
            found = f"found {as_found(line.decode('utf-8', 'replace'))}; {GIVE_UP}"
            raise UserError(f"{path}, line {i}: expected a line of Optuna's journal, {found}")
    for lock in folder.glob(f"{JOURNAL}.lock*"):
        with contextlib.suppress(OSError):
            lock.unlink()


def median_pruner() -> optuna.pruners.MedianPruner:
    """Stops a trial whose best figure so far is below the median of the finished ones at the same place."""
    return optuna.pruners.MedianPruner(n_startup_trials=COMPARED_TRIALS, n_warmup_steps=UNTOUCHED)


class Judge:
    """What a trial's own process tells the journal, and asks it.

    A place is a share of the run, not a step: the learning rate falls over the whole run, so that half of a
    long run is comparable with half of a short one. Between two validations the figure before counts.

    Args:
        folder: The folder of the search.
        number: Of the trial.
        maximise: Whether a high figure is good.
    """

    def __init__(self, folder: Path, number: int, maximise: bool) -> None:
        quiet_optuna()
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.load_study(study_name=NAME, storage=storage, pruner=median_pruner())
        self._number, self._better = number, max if maximise else min

    def report(self, percent: float, value: float) -> bool:
        """Note the figure of a validation; returns whether the trial is to stop.

        A resumed run repeats what it has reported, which then stays as it is.

        Args:
            percent: The share of the run's optimizer steps that are done.
            value: The figure.
        """
        storage, trial = self._study._storage, self._study.get_trials(deepcopy=False)[self._number]
        if PRUNED_AT in trial.user_attrs:
            return True
        known = trial.intermediate_values
        here = int(percent // GRID) * GRID
        before = max(known, default=0)
        best = known[before] if before in known else None
        for place in range(before + GRID, here, GRID):
            if best is not None:
                storage.set_trial_intermediate_value(trial._trial_id, place, best)
        if here > before or not known:
            value = value if best is None else self._better(best, value)
            storage.set_trial_intermediate_value(trial._trial_id, here, value)
        trial = self._study.get_trials(deepcopy=False)[self._number]
        if percent >= 100 or not self._study.pruner.prune(self._study, trial):
            return False
        storage.set_trial_user_attr(trial._trial_id, PRUNED_AT, round(percent, 1))
        return True
