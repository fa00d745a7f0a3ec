"""Several runs side by side: whether they differ for certain, the settings that differ, the results."""

import shlex
import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report import charts
from lit_ft.report.number_pairs import compare_numbers, furthest_apart, read_numbers
from lit_ft.report.page import read_curves, render, thinned
from lit_ft.report.pairs import Pair, align, compare_pair, disagreements, read_per_text
from lit_ft.report.scores import CLASSIFIER, SCORES, SPLITS, compared_tags, scores_of_run
from lit_ft.report.tables import aligned, flat, number
from lit_ft.report.tag_pairs import compare_tags, read_tags, tags_apart

# They do not change the results.
IGNORED = (
    "name", "data.predict_path", "data.predict_output", "data.predict_probabilities",
    "trainer.default_root_dir",
)  # fmt: skip
KINDS = {
    "classifier": "classifier",
    "multi_label": "multi-label",
    "regression": "regression",
    "masked_lm": "masked LM",
}  # by the `kind` in report.json
SEEDS = ("seed_everything", "data.seed")
LINES = {
    "val/loss": "Validation loss",
    "val/accuracy": "Validation accuracy",
    "val/micro_f1": "Validation micro F1",
    "val/mae": "Validation error (mean absolute)",
    "train/loss": "Training loss",
}
WIDTH = 80  # of a terminal
LONG = 14  # letters of a value that would make all columns wide
MOST_LINES = 6  # in a chart: more colours could not be told apart
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Paired:
    """How runs of one kind are compared text by text.

    Attributes:
        read: Run folder, prefix and metrics -> what it said of each text, or why that is not known.
        compare: Two of these, aligned, and whether the labels have an order -> the differences.
        differ: Several, aligned -> on how many texts they differ, and the most telling ones.
        counts: What the counts of a pair mean: two letters and both counts are put in.
        differing: The same of the number of texts on which the runs differ.
        order: Which of these texts are shown first.
    """

    read: Callable[[Path, str, dict[str, Any]], Any]
    compare: Callable[[Any, Any, bool], Pair]
    differ: Callable[[Sequence[Any]], tuple[int, list[dict[str, Any]]]]
    counts: str
    differing: str
    order: str


PAIRED = {
    "classifier": Paired(
        read_per_text,
        compare_pair,
        disagreements,
        "only {a} is right on {one:,} texts, only {b} on {other:,}; McNemar's exact test: {p}",
        "not all say the same of {count:,} of {rows:,} texts",
        "those first of which only some runs are right, then those whose losses are furthest apart",
    ),
    "multi_label": Paired(
        read_tags,
        compare_tags,
        tags_apart,
        "only {a} has all labels right on {one:,} texts, only {b} on {other:,}; McNemar's exact test: {p}",
        "not all give the same labels to {count:,} of {rows:,} texts",
        "those first of which only some runs have all labels right, then those with losses furthest apart",
    ),
    "regression": Paired(
        read_numbers,
        compare_numbers,
        furthest_apart,
        "{a} is closer on {one:,} texts, {b} on {other:,}; sign test: {p}",
        "the predictions of {count:,} of {rows:,} texts clearly differ",
        "those whose predictions are furthest apart",
    ),
}


@dataclass(frozen=True)
class Run:
    """A run of a comparison.

    Attributes:
        letter: What it is called.
        folder: The run folder.
        settings: Flag -> value.
        metrics: Of `metrics.json`.
        facts: Of `report.json`.
    """

    letter: str
    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """`reviews/version_0`."""
        return f"{self.folder.absolute().parent.name}/{self.folder.name}"

    @property
    def kind(self) -> str:
        """What was trained."""
        return KINDS.get(self.facts.get("kind", ""), KINDS["classifier"])

    def measured(self, prefix: str) -> bool:
        """Whether it is a fit that was measured on a split."""
        kind = self.facts.get("kind", "classifier")
        return kind in PAIRED and self.metrics.get(f"{prefix}/{SCORES[kind][0].name}") is not None

    def texts(self, prefix: str) -> str | None:
        """The fingerprint of the texts that it was measured on."""
        return self.facts.get("splits", {}).get(SPLITS[prefix], {}).get("fingerprint")

    def where(self, prefix: str) -> str:
        """Where they are from, and how many."""
        found = self.facts.get("splits", {}).get(SPLITS[prefix], {}).get("where", "unknown")
        return f"{found}, {number(self.metrics.get(f'{prefix}/rows'))} texts"


def _read(letter: str, folder: Path) -> Run:
    if not (folder / runs.METRICS).is_file() or not (folder / runs.CONFIG).is_file():
        raise UserError(f"expected a finished run in {folder}, with {runs.METRICS} and {runs.CONFIG}")
    settings = flat(yaml.safe_load((folder / runs.CONFIG).read_text(encoding="utf-8")))
    return Run(letter, folder, settings, runs.read_metrics(folder), runs.read_facts(folder))


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """What a comparison shows: of each setting that differs and of each result one value a run.

    Raises:
        UserError: A folder holds no finished run.
    """
    letters = [LETTERS[i] if i < len(LETTERS) else f"R{i + 1}" for i in range(len(folders))]
    found = [_read(letter, folder) for letter, folder in zip(letters, folders, strict=True)]
    keys = dict.fromkeys(key for run in found for key in run.settings if key not in IGNORED)
    rows = [(key, [run.settings.get(key) for run in found]) for key in keys]
    rows = [(key, values) for key, values in rows if len(set(map(repr, values))) > 1]
    tags = [tag for tag in compared_tags() if any(tag in run.metrics for run in found)]
    results = [row for tag in tags for row in _rows_of(tag, found)]
    for prefix, split in SPLITS.items():  # scores are comparable only if they were measured on the same texts
        if any(run.measured(prefix) for run in found):
            where = [run.facts.get("splits", {}).get(split, {}).get("where") for run in found]
            results.append((f"{prefix}/where", where))
    return {
        "runs": [(run.letter, run.name) for run in found],
        "settings": [(key, [_shown(value) for value in values]) for key, values in rows],
        "results": results,
        **_paired(found),
        "groups": _groups(found),
        "curves": _curves(found),
    }


def _rows_of(tag: str, found: Sequence[Run]) -> list[tuple[str, list[Any]]]:
    """A result of all runs; of a loss a row for each kind of them, as they have nothing in common."""
    kinds = {run.kind for run in found if tag in run.metrics}
    if len(kinds) < 2 or not tag.endswith("loss"):
        return [(tag, [run.metrics.get(tag) for run in found])]
    return [
        (f"{tag} ({kind})", [run.metrics.get(tag) if run.kind == kind else None for run in found])
        for kind in KINDS.values()
        if kind in kinds
    ]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# ---- text by text ----------------------------------------------------------------------------------


def _paired(found: Sequence[Run]) -> dict[str, Any]:
    """The differences between the first run and each other on the same texts, and what hinders them."""
    measured = [run for run in found if any(run.measured(prefix) for prefix in SPLITS)]
    others = [run for run in measured if run.kind != measured[0].kind]
    measured = [run for run in measured if run not in others]
    apart = [
        f"{run.letter} ({run.kind}) and {measured[0].letter} ({measured[0].kind}) predict other things, and "
        "are not compared text by text"
        for run in others
    ]
    if len(measured) < 2:
        return {"pairs": [], "notes": apart, "differ": None, "texts": ""}
    how = PAIRED[measured[0].facts.get("kind", "classifier")]
    prefix, read, notes = _read_texts(measured, how)
    notes = apart + notes
    known = [run for run in measured if run.letter in read]
    first = known[0] if known else measured[0]
    comparable, pairs = known[:1], []
    for run in measured:
        if run is first:
            continue
        if run.letter not in read or first.letter not in read:
            if None not in (one := run.texts(prefix), other := first.texts(prefix)) and one != other:
                notes.append(_other_texts(first, run, prefix))
            continue
        theirs, ours = align([read[first.letter], read[run.letter]])
        sizes = len(ours.rows), len(read[run.letter].rows), len(read[first.letter].rows)
        if not sizes[0]:
            notes.append(_other_texts(first, run, prefix))
        elif changed := int((theirs.labels != ours.labels).reshape(sizes[0], -1).any(1).sum()):
            notes.append(
                f"{run.letter} and {first.letter} are not comparable: {changed:,} of their {sizes[0]:,} "
                "texts in common have different labels"
            )
        else:
            same_classes = read[first.letter].names == read[run.letter].names
            ordered = same_classes and all(f"{prefix}/mae" in r.metrics for r in (first, run))
            pairs.append(_pair_shown(first, run, how.compare(theirs, ours, ordered), how))
            comparable.append(run)
            if sizes[0] < max(sizes):
                notes.append(
                    f"{run.letter} - {first.letter} is of the {sizes[0]:,} texts that both were measured on, "
                    f"of {sizes[1]:,} and {sizes[2]:,}"
                )
    differ = None
    if pairs:
        if prefix == "val":
            notes.append("each run chose its best checkpoint by its validation texts; a test is fairer")
        if len(pairs) > 1:
            notes.append("of 20 differences that are none, about one seems certain by chance")
        together = align([read[run.letter] for run in comparable])
        count, entries = how.differ(together)
        letters, rows = [run.letter for run in comparable], len(together[0].rows)
        told = how.differing.format(count=count, rows=rows)
        differ = {"count": count, "letters": letters, "entries": entries, "told": told, "order": how.order}
    return {"pairs": pairs, "notes": notes, "differ": differ, "texts": SPLITS[prefix]}


def _read_texts(measured: Sequence[Run], how: Paired) -> tuple[str, dict[str, Any], list[str]]:
    """The first of test, fold and validation that all runs have: prefix, letter -> texts, what is missing."""
    wanted, *instead = [p for p in SPLITS if all(run.measured(p) for run in measured)] or ["test"]
    notes = []
    better = [p for p in [*SPLITS][: [*SPLITS].index(wanted)] if any(run.measured(p) for run in measured)]
    if better:
        what = "were tested" if "test" in better else "have a fold that was measured"
        notes.append(f"not all of the runs {what}, so the {SPLITS[wanted]} texts are compared")
    read = {run.letter: how.read(run.folder, wanted, run.metrics) for run in measured}
    missing = [
        _unpaired(run, wanted, str(read[run.letter])) for run in measured if isinstance(read[run.letter], str)
    ]
    for other in instead if missing else ():
        others = {run.letter: how.read(run.folder, other, run.metrics) for run in measured}
        if not any(isinstance(one, str) for one in others.values()):
            read, wanted = others, other
            missing.append(f"until then the {SPLITS[other]} texts are compared")
    texts = {letter: one for letter, one in read.items() if not isinstance(one, str)}
    return wanted, texts, notes + missing


def _pair_shown(first: Run, other: Run, pair: Pair, how: Paired) -> dict[str, Any]:
    b, a = other.letter, first.letter
    p = "p < 0.001" if pair.p < 0.001 else f"p = {pair.p:.3f}"
    return {
        "names": f"{b} - {a}",
        "rows": pair.rows,
        "differences": [
            (one.score.words, one.value, one.told(b, a), one.verdict(b, a)) for one in pair.differences
        ],
        "counts": how.counts.format(a=a, b=b, one=pair.only_one, other=pair.only_other, p=p),
    }


def _unpaired(run: Run, prefix: str, reason: str) -> str:
    command = "validate" if prefix == "val" else "test"
    folder = run.folder / runs.CHECKPOINTS
    checkpoint = next(
        (path for name in ("best", "last") if (path := folder / f"{name}.ckpt").is_file()), None
    )
    given = shlex.quote(str(checkpoint or folder / "best.ckpt"))
    return (
        f"{run.letter} cannot be compared text by text: {reason}; "
        f"python -m lit_ft {command} --ckpt_path {given} writes it"
    )


def _other_texts(first: Run, other: Run, prefix: str) -> str:
    where = f"{other.where(prefix)}; {first.where(prefix)}"
    if other.where(prefix) == first.where(prefix):
        where = f"both of {first.where(prefix)}: it was changed, or read by other columns or clean-ups"
    return (
        f"{other.letter} and {first.letter} are not comparable: they were measured on different "
        f"{SPLITS[prefix]} texts ({where})"
    )


# ---- seeds, curves -----------------------------------------------------------------------------------


def _groups(found: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs that differ in nothing but the seed: mean and standard deviation of their figures."""
    same: dict[str, list[Run]] = {}
    for run in found:
        kept = {key: value for key, value in run.settings.items() if key not in (*IGNORED, *SEEDS)}
        same.setdefault(repr(sorted(kept.items())), []).append(run)
    groups = []
    for members in same.values():
        if len({repr(run.settings.get(SEEDS[0])) for run in members}) < 2:
            continue
        rows: list[tuple[str, str, str]] = []
        facts = members[0].facts
        scores = scores_of_run(facts) if facts.get("kind") in SCORES else CLASSIFIER
        for prefix in SPLITS:
            if rows or len({run.texts(prefix) for run in members}) > 1:
                continue  # the test is the result; and means are of the same texts only
            for score in scores:
                values: list[Any] = [run.metrics.get(f"{prefix}/{score.name}") for run in members]
                if score.console and None not in values:
                    mean, sd = statistics.fmean(values), statistics.stdev(values)
                    spread = f"{number(mean, score.digits)} \u00b1 {number(sd, score.digits)}"
                    ends = f"{number(min(values), score.digits)} to {number(max(values), score.digits)}"
                    rows.append((f"{prefix}/{score.name}", spread, ends))
        if rows:
            groups.append({"letters": ", ".join(run.letter for run in members), "rows": rows})
    return groups


def _curves(found: Sequence[Run]) -> list[Markup]:
    """A chart of each of `LINES` that two runs or more have points of, a line a run."""
    points = [(run, read_curves(run.folder)) for run in found[:MOST_LINES]]
    drawn = []
    for tag, title in LINES.items():
        for kind in KINDS.values():
            lines = {
                f"{run.letter} {run.name}": thinned(tags[tag])
                for run, tags in points
                if run.kind == kind and len(tags.get(tag, ())) > 1
            }
            if len(lines) > 1:
                drawn.append(Markup(charts.lines(lines, title, "step")))
    return drawn


# ---- the page and the terminal -----------------------------------------------------------------------


def write_comparison(compared: dict[str, Any], path: Path) -> None:
    """Write the table of `compare` as an HTML page."""
    runs.write(
        path,
        render("comparison.html.j2", metrics={}, shown=figure_shown, summary=_summary(compared), **compared),
    )


def _summary(compared: dict[str, Any]) -> str:
    """What to know first: the difference if there is one pair, else the range of the first figure."""
    if len(compared["pairs"]) == 1:
        pair = compared["pairs"][0]
        return (
            f"{pair['differences'][0][0].capitalize()}, {pair['differences'][0][2]}. On the same "
            f"{pair['rows']:,} {compared['texts']} texts."
        )
    tag, values = next(iter(compared["results"]), ("", []))
    known = [value for value in values if value is not None]
    return f"{tag} from {number(min(known))} to {number(max(known))}." if known else ""


def as_text(compared: dict[str, Any]) -> str:
    """The table of `compare` for a terminal of 80 columns."""
    lines = [f"{letter}  {name}" for letter, name in compared["runs"]]
    for pair in compared["pairs"]:
        lines += ["", f"on the same {pair['rows']:,} {compared['texts']} texts:"]
        width = max(len(words) for words, *_ in pair["differences"])
        lines += [f"  {words:<{width}}  {told}" for words, _, told, _ in pair["differences"]]
        lines += textwrap.wrap(pair["counts"], WIDTH, initial_indent="  ", subsequent_indent="  ")
    if compared["differ"]:
        differ = compared["differ"]
        line = f"{', '.join(differ['letters'])}: {differ['told']}; the page has them"
        lines += ["", *textwrap.wrap(line, WIDTH)]
    for group in compared["groups"]:
        line = f"{group['letters']} differ only in the seed (mean \u00b1 standard deviation, range):"
        lines += ["", *textwrap.wrap(line, WIDTH)]
        lines += aligned(group["rows"], left=(0, 1, 2), indent="  ")
    if compared["notes"]:
        lines += [""]
    for note in compared["notes"]:
        # A path or a command is not broken at its hyphens.
        lines += textwrap.wrap(
            note, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
        )
    lines += [""]
    lines += _table(compared["runs"], compared["settings"]) or ["no setting differs"]
    lines += ["", *_table(compared["runs"], compared["results"])]
    return "\n".join(lines)


def figure_shown(value: Any) -> str:
    """A figure with four decimal places, a larger one with one; words as they are."""
    large = isinstance(value, (int, float)) and abs(value) >= 10
    return number(value, 1 if large else 4)


def _table(names: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """Rows of values under the runs' letters; several tables, or values below each other, if need be."""
    texts = [(name, [figure_shown(value) for value in values]) for name, values in rows]
    first = max((len(name) for name, _ in texts), default=0)
    room = min(LONG, max(8, (WIDTH - first) // len(names) - 2))
    long = [row for row in texts if max(map(len, row[1]), default=0) > room]
    short = [row for row in texts if row not in long]
    width = max((len(value) for _, values in short for value in values), default=1)
    at_once = max(1, (WIDTH - first) // (width + 2))
    lines = []
    for start in range(0, len(names), at_once):
        heads = ["", *(letter for letter, _ in names[start : start + at_once])]
        cells = [[name, *values[start : start + at_once]] for name, values in short]
        if cells:
            lines += aligned([heads, *cells])
    for name, values in long:
        lines += [name, *(f"  {letter}  {value}" for (letter, _), value in zip(names, values, strict=True))]
    return lines
