"""The training data divided: into a fold to measure, rows held out for validation, and rows to train on.

The fold is left out first, so that it chooses nothing; validation is held out of the rest; and a share is
taken of what is then left. N rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from lit_ft.console import say, warn
from lit_ft.data.columns import Values
from lit_ft.data.folds import fold_of_rows, nested_share, undivided_parts
from lit_ft.data.groups import keys_of_groups, line_of, read_groups, shared
from lit_ft.data.source import SplitName
from lit_ft.data.splits import Split, copies_of, hold_out_rows
from lit_ft.errors import UserError, quoted

MARKS = ("held_out", "fold", "trained")  # keys of `Division.marks`


@dataclass(frozen=True)
class Division:
    """Which rows of the training data are for what: positions, ascending, int64.

    Attributes:
        train: To train on.
        validation: Held out for validation; None if that has data of its own.
        fold: Left out to be measured; None without folds.
        left: Rows to train on before a share of them was taken.
        apart: The share that validation is, in words.
        sizes: Rows of each fold, (K,).
    """

    train: np.ndarray
    validation: np.ndarray | None
    fold: np.ndarray | None
    left: int
    apart: str = ""
    sizes: tuple[int, ...] = ()

    def parts(self) -> dict[SplitName, np.ndarray | None]:
        """The rows of each split."""
        return {"train": self.train, "validation": self.validation, "fold": self.fold}

    def marks(self) -> dict[str, str | None]:
        """A fingerprint of each part's rows, for checkpoints."""
        parts = zip(MARKS, (self.validation, self.fold, self.train), strict=True)
        return {name: None if rows is None else f"{crc32(rows.tobytes()):08x}" for name, rows in parts}


def check_division(settings: Mapping[str, Any]) -> None:
    """Refuse settings of folds and shares that mean nothing.

    Args:
        settings: `folds`, `fold`, `train_share`.
    """
    folds, fold, share = (settings[key] for key in ("folds", "fold", "train_share"))
    if folds is None and fold is not None:
        raise UserError(
            f"data.fold={fold} needs the number of folds; set --data.folds=5, or leave out --data.fold"
        )
    if folds is not None and folds < 2:
        raise UserError(
            f"expected data.folds of at least 2, found {folds}; set --data.folds=5, or null for none"
        )
    if folds is not None and fold is None:
        raise UserError(
            f"data.folds={folds} needs the fold to leave out; set --data.fold to one of 1 to {folds}"
        )
    if folds is not None and not 1 <= fold <= folds:
        raise UserError(f"expected data.fold from 1 to data.folds={folds}, found {fold}; set --data.fold=1")
    if not 0 < share <= 1:
        raise UserError(
            f"expected data.train_share above 0 and at most 1, found {share}; set --data.train_share=0.5"
        )


def divides(settings: Mapping[str, Any]) -> bool:
    """Whether these settings take something of the training data, besides validation."""
    return settings["folds"] is not None or settings["train_share"] < 1


def divide(
    strata: np.ndarray,
    keys: np.ndarray,
    settings: Mapping[str, Any],
    groups: Values | None,
    holds_out: bool,
    where: str,
) -> Division:
    """Divide the training data as the settings say.

    Args:
        strata: What each part has about the same share of: classes, (N,) int64, or labels, (N, C) bool.
        keys: Equal for rows with equal texts, (N,).
        settings: `folds`, `fold`, `validation_share`, `train_share`, `split_seed`.
        groups: Rows that stay together, too.
        holds_out: Whether validation is held out.
        where: The data, in messages.
    """
    seed = settings["split_seed"]
    rest, fold, validation, apart, sizes = np.arange(len(keys)), None, None, "", np.zeros(0, np.int64)
    if (num_folds := settings["folds"]) is not None:
        own = None if groups is None else keys_of_groups(groups)
        _check_parts(num_folds, len(np.unique(undivided_parts(len(keys), keys, own))), groups, where)
        of_rows = fold_of_rows(strata, num_folds, seed, keys, own)
        sizes = np.bincount(of_rows)
        fold = np.flatnonzero(of_rows == settings["fold"] - 1)
        rest = np.flatnonzero(of_rows != settings["fold"] - 1)
    if holds_out:
        left = where if fold is None else f"{where} without {fold_in_words(settings)}"
        part = strata[rest], keys[rest], settings["validation_share"], seed, groups_of(groups, rest), left
        kept, held_out, apart = hold_out_rows(*part)
        rest, validation = rest[kept], rest[held_out]
    train = rest
    if (share := settings["train_share"]) < 1:
        own = None if groups is None else keys_of_groups(groups)[rest]
        train = rest[nested_share(strata[rest], share, seed, keys[rest], own)]
    return Division(train, validation, fold, len(rest), apart, tuple(sizes.tolist()))


def groups_of(groups: Values | None, rows: np.ndarray) -> Values | None:
    """The groups of some rows, (M,) positions."""
    return None if groups is None else replace(groups, codes=groups.codes[rows])


def _check_parts(num_folds: int, num_parts: int, groups: Values | None, where: str) -> None:
    if num_parts >= num_folds:
        return
    what = "different texts" if groups is None else f"groups in column '{groups.column}' that share no text"
    folds = f"set --data.folds={num_parts} (of repeat: --folds={num_parts})"
    none = "give more rows, or set --data.folds=null (of repeat: --folds=1)"
    advice = folds if num_parts > 1 else none
    raise UserError(
        f"expected at least {num_folds} {what}, one for each of data.folds={num_folds}, found {num_parts} in "
        f"{where}; {advice}"
    )


def check_same_parts(
    then: Mapping[str, str | None], now: Mapping[str, str | None], parts: Sequence[SplitName]
) -> None:
    """Refuse to evaluate a checkpoint on rows that it was trained on, and to resume on other rows.

    Args:
        then: The fingerprints of the parts of the checkpoint's run, `Division.marks`.
        now: Those of the parts now.
        parts: Which of them are used.
    """
    if "validation" in parts and now["held_out"] is not None and then["held_out"] != now["held_out"]:
        found = "other rows" if then["held_out"] else "none: its run had validation data of its own"
        raise UserError(
            f"expected the rows that the checkpoint's run held out of its training data, found {found}; set "
            "--data.validation_path to rows to evaluate on, or --data.validation_split"
        )
    if "fold" in parts and then["fold"] != now["fold"]:
        raise UserError(
            "expected the rows of the fold that the checkpoint's run left out of its training data, found "
            "others, which may have been trained on: the groups in the training data are not the same; "
            "restore them"
        )
    if "train" in parts and then["trained"] != now["trained"]:
        raise UserError(
            "expected the rows that the checkpoint was trained on, found others: the groups in the training "
            "data are not the same; leave out --ckpt_path to start a new run"
        )


def part_in_words(division: Division, settings: Mapping[str, Any]) -> dict[SplitName, str]:
    """What each part is of the training data; nothing of one that is all of it, or has data of its own."""
    found: dict[SplitName, str] = {}
    if division.fold is not None:
        least, most = min(division.sizes), max(division.sizes)
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        found["fold"] = f"{fold_in_words(settings)}, of {each} texts each"
    if division.validation is not None:
        found["validation"] = division.apart
    if (share := settings["train_share"]) < 1:
        found["train"] = f"data.train_share={share} of {division.left:,} texts"
    return found


def tell_division(division: Division, settings: Mapping[str, Any], parts: Sequence[SplitName]) -> None:
    """Say how many rows some parts have."""
    if "fold" in parts and division.fold is not None:
        say(
            f"{fold_in_words(settings)}: {len(division.fold):,} texts held out of train, measured by test, "
            "choosing nothing"
        )
    if "validation" in parts and division.validation is not None:
        say(f"validation: {len(division.validation):,} texts held out of train ({division.apart})")
    if "train" in parts and (share := settings["train_share"]) < 1:
        say(f"train_share={share}: {len(division.train):,} of {division.left:,} texts to train on")


def fold_in_words(settings: Mapping[str, Any]) -> str:
    """`fold 2 of 5`."""
    return f"fold {settings['fold']} of {settings['folds']}"


def warn_of_rare(counts: Mapping[str, int] | None, num_folds: int, noun: str) -> None:
    """Warn if classes have fewer rows than there are folds: not each fold has them.

    Args:
        counts: Name of a class -> its rows; None if there are no classes.
        num_folds: K.
        noun: What the names are: `class` or `label`.
    """
    rare = [name for name, count in (counts or {}).items() if 0 < count < num_folds]
    if rare:
        what = {"class": "classes have", "label": "labels have"}[noun] if len(rare) > 1 else f"{noun} has"
        alone = any((counts or {})[name] == 1 for name in rare)
        warn(
            f"{len(rare):,} {what} fewer rows than there are folds, {num_folds} ({quoted(rare, 5)}): some "
            f"folds have none to measure{', and one leaves none to train on' * alone}"
        )


def warn_of_shared(splits: Mapping[SplitName, Split], groups: Values | None, where: str) -> None:
    """Warn of what validation data of its own shares with the fold or, of groups, with training.

    Args:
        splits: `train`, `validation` and perhaps `fold`.
        groups: Of the training rows.
        where: The validation data, in messages.
    """
    validation = splits["validation"]
    if "fold" in splits and (found := copies_of(splits["fold"], validation)):
        verb = "is a copy of a text" if found == 1 else "are copies of texts"
        warn(
            f"{found:,} of {len(validation.keys):,} validation texts {verb} of the fold, which is to choose "
            "nothing; python -m lit_ft check with these settings shows them"
        )
    if groups is None:
        return
    theirs = read_groups(validation.table, groups.column, validation.source_rows, where, needed=False)
    if theirs is not None:
        rows = splits["train"].source_rows, validation.source_rows
        (leak,) = shared([("train", groups, rows[0]), ("validation", theirs, rows[1])])
        if line := line_of(leak, groups.column):
            warn(f"{line}; python -m lit_ft check with these settings shows them")
