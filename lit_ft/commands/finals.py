"""The end of a search: the best settings and those it started from, each with seeds that no trial had.

Trials are chosen by their figures, and the chosen figure is too good. These runs are of other seeds, and are
measured on texts that chose nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_ft import runs
from lit_ft.commands.repetition import fit_and_test, forget, missing, reached
from lit_ft.commands.search_settings import flags_of
from lit_ft.commands.several import LOGS
from lit_ft.commands.study import Study
from lit_ft.commands.trials import INTERRUPTED, Plan
from lit_ft.console import say, warn
from lit_ft.errors import UserError
from lit_ft.progress import clock
from lit_ft.reliability.jobs import Job
from lit_ft.report.pairs import Difference, seeds_apart
from lit_ft.report.pooled import Pooled, Repetition, difference, figures, pool
from lit_ft.report.scores import SPLITS

START = "start"  # the folder of the runs with the settings that the search started from
LOSS = "loss"


@dataclass(frozen=True)
class Final:
    """What runs again.

    Attributes:
        plan: Of the search.
        study: The journal.
        fold: The fold that measures, which no run of the search trains on; None for the test texts.
        seeds: How many new seeds.
    """

    plan: Plan
    study: Study
    fold: int | None
    seeds: int

    @property
    def measured(self) -> str:
        """The prefix of what they are measured on."""
        return "test" if self.fold is None else "fold"

    @property
    def new_seeds(self) -> list[int]:
        """Those after the one of the trials."""
        return [self.plan.seed + i for i in range(1, self.seeds + 1)]


def run_finals(final: Final) -> dict[str, Any] | None:
    """Run what is missing, and compare; None if too little of it ended well."""
    best = final.study.best()
    assert best is not None
    same = bool(final.plan.own) and best.params == final.plan.own
    parts = {START: {}} if same else {START: {}, f"winner_{best.number:03d}": dict(best.params)}
    repetitions = {
        part: [
            Repetition(seed, final.fold, 1.0, final.plan.folder / part / f"seed_{seed}")
            for seed in final.new_seeds
        ]
        for part in parts
    }
    listed = f"seed{'s' * (final.seeds > 1)} {', '.join(map(str, final.new_seeds))}"
    who = "your own settings, which no trial beat," if same else f"trial {best.number} and your own settings"
    where = f"with {listed}, measured on the {SPLITS[final.measured]} texts"
    if any(missing(one.folder, (final.measured,)) for runs_of in repetitions.values() for one in runs_of):
        say(f"finals: {who} again {where}")
    else:
        say(f"finals: {who} have run before {where}")
    for ended in final.plan.machine.run(_jobs(final, parts, repetitions)):
        if ended.code in INTERRUPTED:
            warn(f"{ended.job.name} was stopped; the same command resumes it")
        elif ended.code:
            reason = ended.error or f"exit code {ended.code}, see {runs.shown(ended.job.log)}"
            warn(f"{ended.job.name} failed: {reason}")
        else:
            run = ended.job.args[1]
            final.plan.machine.ended(run)
            forget(run, "model")
            say(f"{ended.job.name}: {reached(run, (final.measured,))} ({clock(ended.seconds)})")
    try:
        pooled = {part: pool(runs_of, final.measured) for part, runs_of in repetitions.items()}
        return compared(final, best.number, list(pooled.values()))
    except UserError as error:
        warn(f"what the best settings are worth is not known: {error}")
        return None


def _jobs(
    final: Final, parts: Mapping[str, Mapping[str, Any]], repetitions: Mapping[str, Sequence[Repetition]]
) -> Iterator[Job]:
    """A job for each run that is not done; both settings of a seed, then those of the next."""
    for i, seed in enumerate(final.new_seeds):
        for part, values in parts.items():
            run = repetitions[part][i].folder
            if not missing(run, (final.measured,)):
                continue
            args = [*final.plan.args, *flags_of(values), f"--seed_everything={seed}"]
            who = "your settings" if part == START else "winner"
            log = final.plan.folder / LOGS / f"{part}_seed_{seed}.txt"
            yield Job(f"{who}, seed {seed}", fit_and_test, (args, run, (final.measured,)), log)


# ---- what it says ------------------------------------------------------------------------------------


def compared(final: Final, number: int, pooled: Sequence[Pooled]) -> dict[str, Any]:
    """The finals as plain values.

    Args:
        final: What ran.
        number: Of the best trial.
        pooled: What the start's runs said, and those of the winner if that is another.
    """
    found = [figures(one) for one in pooled]
    main = main_score(final.plan.monitor, list(found[0]["scores"]))
    texts = f"{found[0]['texts']:,} {SPLITS[final.measured]} texts"
    seeds = f"{len(found[0]['seeds'])} new seed{'s' * (len(found[0]['seeds']) > 1)}"
    facts: dict[str, Any] = {
        "winner": number,
        "kind": pooled[0].kind,
        "measured": final.measured,
        "texts": found[0]["texts"],
        "seeds": list(found[-1]["seeds"]),
        "main": main,
        "start": found[0]["scores"],
        "notes": [note for one in found for note in one["notes"]],
    }
    if len(pooled) == 1:
        of = found[0]["scores"][main]
        words = next(score.words for score in pooled[0].scores() if score.name == main)
        sentence = f"no trial beat your own settings; with {seeds}: {words} {of['value']:.3f}"
        if of["low"] is not None:
            sentence += f" (95 %: {of['low']:.3f} to {of['high']:.3f})"
        return facts | {"sentence": f"{sentence} on {texts}", "best": None, "differences": []}
    rows = []
    for one in difference(pooled[0], pooled[1]):
        of = [part["scores"][one.score.name]["seeds"]["values"] for part in found]
        rows.append(
            {
                "name": one.score.name,
                "words": one.score.words,
                "told": one.told("winner", "your settings", verdict=False).partition(": ")[2],
                "verdict": certainty(one, of[0], of[1]),
                "sentence": worth(one),
                **{"value": one.value, "low": one.low, "high": one.high},
            }
        )
    told = next(row for row in rows if row["name"] == main)
    return facts | {
        "best": found[1]["scores"],
        "sentence": f"with {seeds}, on the same {texts}: {told['sentence']}: {told['verdict']}",
        "differences": rows,
    }


def certainty(one: Difference, own: Sequence[float], best: Sequence[float]) -> str:
    """Whether a difference is certain: of other texts, and of other seeds.

    The interval averages the seeds, and is that of drawing texts alone. So the seeds' figures must be apart.

    Args:
        one: The difference.
        own: The figure of each seed with the start's settings.
        best: That of each seed with the best ones.
    """
    if not one.certain:
        return "not certain"
    if (apart := seeds_apart(own, best)) is None:
        return "not certain, as another seed may say otherwise"
    return "certain" if apart else "not certain, as the seeds of the two overlap"


def main_score(monitor: str, names: Sequence[str]) -> str:
    """The figure that the answer is about: the one that was searched for, unless it is the loss."""
    wanted = monitor.partition("/")[2]
    others = [name for name in names if name != LOSS] or list(names)
    known = [name for name in (wanted, f"{wanted}_chosen") if name in others]  # of labels: at own thresholds
    return (known or others)[0]


def worth(one: Difference) -> str:
    """`the winner is 0.8 points better than your settings in accuracy (95 %: -0.2 to +1.8)`."""
    (value, low, high), digits, unit = one.shown
    better = (value > 0) == bool(one.score.higher_is_better)
    if value == 0:
        how = "the winner is as good as your settings"
    else:
        amount = f"{abs(value):.{digits}f}{unit} {'better' if better else 'worse'}"
        how = f"the winner is {amount} than your settings"
    if not one.score.higher_is_better:  # of an error a lower value is better: gains are shown as gains
        low, high = -high + 0.0, -low + 0.0
    return f"{how} in {one.score.words} (95 %: {low:+.{digits}f} to {high:+.{digits}f})"
