"""Which rows each of K folds leaves out, and nested shares of the rows to train on. N rows, C classes.

Rows of one component (equal texts, or of one group, also through others) are never divided. scikit-learn's
StratifiedGroupKFold knows no sets of labels, and breaks ties by the order of the rows; iterative
stratification is that of `data.iterative`, with K sides in place of two.
"""

import numpy as np

from lit_ft.data.holdout import components
from lit_ft.data.iterative import give_away

FOLDS, SHARE = 1, 2  # each draws its own random numbers of a seed


def fold_of_rows(
    strata: np.ndarray,
    num_folds: int,
    seed: int,
    keys: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Divide rows into folds of about the same size, with about the same share of each class.

    If no two rows belong together, neither the rows of a class nor all rows differ by more than one between
    folds. No fold is empty.

    Args:
        strata: Classes, int64 (N,), or which labels each row has, bool (N, C).
        num_folds: K, of at least 2 and at most the number of components.
        seed: The same seed gives the same folds.
        keys: Equal for rows with equal texts, (N,); None if all differ.
        groups: Equal for rows of one group, (N,); None without groups.

    Returns:
        The fold of each row, (N,) int64 in [0, K).
    """
    parts = undivided_parts(len(strata), keys, groups)
    sizes = np.bincount(parts)
    assert 2 <= num_folds <= len(sizes)
    order = np.random.default_rng((seed, FOLDS)).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # the largest first, which have the least choice
    divide = _folds_of_labels if strata.ndim == 2 else _folds_of_classes
    return divide(strata, num_folds, parts, order)[parts]


def undivided_parts(num_rows: int, keys: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """The component of each row, (N,) int64 from 0: rows with equal keys or groups have the same."""
    given = [each for each in (groups, keys) if each is not None]
    return components(*given) if given else np.arange(num_rows)


def _folds_of_classes(
    classes: np.ndarray, num_folds: int, parts: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """The fold of each component, (G,), given an order of them, (G,).

    Components of several rows go one by one to the fold in which their classes, and rows at all, are rarest:
    the sum of squares grows least there, which is the least variance. Single rows fill up what is missing.
    """
    sizes = np.bincount(parts)
    counts = np.bincount(classes)
    has = np.zeros((num_folds, len(counts)))  # rows of each class in each fold
    rows_in = np.zeros(num_folds)
    fold_of = np.full(len(sizes), -1)
    by_part = np.argsort(parts, kind="stable")
    ends = np.cumsum(sizes)
    for part in order[sizes[order] > 1]:
        own, rows = np.unique(classes[by_part[ends[part] - sizes[part] : ends[part]]], return_counts=True)
        cost = has[:, own] @ (rows / counts[own]) + rows_in * (sizes[part] / len(classes))
        fold = int(cost.argmin())
        fold_of[part] = fold
        has[fold, own] += rows
        rows_in[fold] += sizes[part]
    alone = order[sizes[order] == 1]
    class_of = classes[by_part[ends[alone] - 1]]
    for c in np.unique(class_of):
        singles = alone[class_of == c]
        more = _filled(has[:, c], rows_in, len(singles))
        fold_of[singles] = np.repeat(np.arange(num_folds), more)
        rows_in += more
    return fold_of


def _filled(has: np.ndarray, rows_in: np.ndarray, rows: int) -> np.ndarray:
    """How many single rows of a class each fold gets, (K,), so that all have about the same number of them.

    Args:
        has: Rows of the class in each fold, (K,).
        rows_in: All its rows, (K,): a fold with fewer gets what cannot be divided equally.
        rows: Those to divide.
    """
    lowest = np.sort(has)
    # filling the j + 1 emptiest folds up to the next one takes this many rows
    needed = np.arange(1, len(has) + 1) * np.append(lowest[1:], np.inf) - np.cumsum(lowest)
    level = np.floor((rows + lowest[: (j := int(np.searchsorted(needed, rows)) + 1)].sum()) / j)
    more = np.maximum(level - has, 0)
    ranked = np.lexsort((rows_in + more, np.maximum(has, level)))
    more[ranked[: rows - int(more.sum())]] += 1
    return more.astype(np.int64)


def _folds_of_labels(tags: np.ndarray, num_folds: int, parts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The fold of each component, (G,), by iterative stratification; rows without a label are one more."""
    tags = np.column_stack([tags, ~tags.any(1)])
    rows, columns = np.nonzero(tags)
    wanted = np.tile(tags.sum(0) / num_folds, (num_folds, 1))
    room = np.full(num_folds, len(tags) / num_folds)
    sizes = np.bincount(parts)
    fold_of = give_away(columns, parts[rows], sizes, order, wanted, room)
    for fold in np.flatnonzero(np.bincount(fold_of, minlength=num_folds) == 0):  # of a handful of texts
        fullest = int(np.bincount(fold_of, minlength=num_folds).argmax())
        fold_of[order[fold_of[order] == fullest][-1]] = fold
    return fold_of


def nested_share(
    strata: np.ndarray,
    share: float,
    seed: int,
    keys: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """A share of the rows, about the same of each class; a smaller share is contained in a larger one.

    The components stand in one order, whatever the share, and the first are taken. First comes one of each
    class; the others are spread evenly, those of each class over the whole order. A component counts as of
    the class of which it has the largest part.

    Args:
        strata: Classes, int64 (N,), or which labels each row has, bool (N, C).
        share: Above 0, at most 1.
        seed: The same seed gives the same order.
        keys: Equal for rows with equal texts, (N,); None if all differ.
        groups: Equal for rows of one group, (N,); None without groups.

    Returns:
        The positions of the rows, ascending, int64.
    """
    parts = undivided_parts(len(strata), keys, groups)
    if strata.ndim == 2:
        rows, classes = np.nonzero(np.column_stack([strata, ~strata.any(1)]))
    else:
        rows, classes = np.arange(len(strata)), strata
    order, first = _order_of_shares(parts, parts[rows], classes, seed)
    sizes = np.bincount(parts)[order]
    ends = np.cumsum(sizes)
    taken = ends - sizes / 2 <= share * len(strata)  # the nearest: half of a component counts as all of it
    taken[:first] = True
    return np.flatnonzero(np.isin(parts, order[taken]))


def _order_of_shares(
    parts: np.ndarray, owners: np.ndarray, classes: np.ndarray, seed: int
) -> tuple[np.ndarray, int]:
    """The components in the order in which shares take them, (G,), and how many of them are always taken.

    Args:
        parts: The component of each row, (N,).
        owners: The component of each label of each row, (M,).
        classes: That label, (M,).
        seed: Draws the order within a class.
    """
    sizes, counts = np.bincount(parts), np.bincount(classes)
    place = np.random.default_rng((seed, SHARE)).permutation(len(sizes))
    cells, rows = np.unique(owners * len(counts) + classes, return_counts=True)
    part, own = np.divmod(cells, len(counts))
    # of each component the class of which it has the largest part: cells are sorted by component
    best = np.lexsort((own, -rows / counts[own], part))
    class_of = own[best[np.append(True, np.diff(part[best]) > 0)]]
    shuffled = np.lexsort((place, class_of))
    ends = np.cumsum(sizes[shuffled])
    whole = np.bincount(class_of, sizes, minlength=len(counts))
    before = (np.cumsum(whole) - whole)[class_of[shuffled]]
    where = (ends - sizes[shuffled] / 2 - before) / whole[class_of[shuffled]]  # in (0, 1), in its class
    order = shuffled[np.lexsort((place[shuffled], where))]
    of_class: set[int] = set()
    first = []
    classes_in = np.split(own, np.flatnonzero(np.diff(part)) + 1)
    for each in order.tolist():
        if not of_class.issuperset(found := classes_in[each].tolist()):
            of_class.update(found)
            first.append(each)
    rest = order[~np.isin(order, first)]
    return np.concatenate([np.array(first, np.int64), rest]), len(first)
