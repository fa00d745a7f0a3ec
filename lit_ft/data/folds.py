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
    rows, labels = _labels_of_rows(strata)
    fold_of = _whole_parts(parts[rows], labels, sizes, order, num_folds)
    fill = _fill_with_labels if strata.ndim == 2 else _fill_with_classes
    fill(fold_of, parts[rows], labels, sizes, order[sizes[order] == 1], num_folds)
    for fold in np.flatnonzero(np.bincount(fold_of, minlength=num_folds) == 0):  # of a handful of texts
        fullest = int(np.bincount(fold_of, minlength=num_folds).argmax())
        fold_of[order[fold_of[order] == fullest][-1]] = fold
    return fold_of[parts]


def _labels_of_rows(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each label of each row: the row and the label, (M,) each. To have none of several is one more."""
    if strata.ndim == 2:
        rows, labels = np.nonzero(np.column_stack([strata, ~strata.any(1)]))
        return rows, labels
    return np.arange(len(strata)), strata


def undivided_parts(num_rows: int, keys: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """The component of each row, (N,) int64 from 0: rows with equal keys or groups have the same."""
    given = [each for each in (groups, keys) if each is not None]
    return components(*given) if given else np.arange(num_rows)


def _whole_parts(
    owners: np.ndarray, labels: np.ndarray, sizes: np.ndarray, order: np.ndarray, num_folds: int
) -> np.ndarray:
    """The fold of each component of several rows, -1 of single rows, (G,).

    They go one by one, the largest first, as these have the least choice, to the fold in which their classes,
    and rows at all, are rarest: there the sum of squares, and so the variance between folds, grows least.

    Args:
        owners: The component of each label of each row, (M,).
        labels: That label, (M,).
        sizes: Rows of each component, (G,).
        order: A random order of the components, (G,).
        num_folds: K.
    """
    counts, num_rows = np.bincount(labels), int(sizes.sum())
    has = np.zeros((num_folds, len(counts)))  # rows of each class in each fold
    rows_in = np.zeros(num_folds)
    fold_of = np.full(len(sizes), -1)
    many = sizes[owners] > 1
    cells, rows = np.unique(owners[many] * len(counts) + labels[many], return_counts=True)
    part, own = np.divmod(cells, len(counts))
    starts, ends = (np.searchsorted(part, np.arange(len(sizes)), side) for side in ("left", "right"))
    order = order[np.argsort(-sizes[order], kind="stable")]
    for each in order[sizes[order] > 1].tolist():
        here = slice(starts[each], ends[each])
        cost = has[:, own[here]] @ (rows[here] / counts[own[here]]) + rows_in * (sizes[each] / num_rows)
        fold = int(cost.argmin())
        fold_of[each] = fold
        has[fold, own[here]] += rows[here]
        rows_in[fold] += sizes[each]
    return fold_of


def _in_folds(fold_of: np.ndarray, owners: np.ndarray, labels: np.ndarray, num_folds: int) -> np.ndarray:
    """How many rows of each class each fold has so far, (K, C) float64."""
    given = fold_of[owners] >= 0
    cells = fold_of[owners][given] * (labels.max() + 1) + labels[given]
    return np.bincount(cells, minlength=num_folds * (labels.max() + 1)).reshape(num_folds, -1).astype(float)


def _fill_with_classes(
    fold_of: np.ndarray,
    owners: np.ndarray,
    labels: np.ndarray,
    sizes: np.ndarray,
    alone: np.ndarray,
    num_folds: int,
) -> None:
    """Give single rows to the folds that lack rows of their class.

    Args:
        fold_of: The fold of each component, -1 of single rows, (G,); changed in place.
        owners: The component of each row, (N,).
        labels: Its class, (N,).
        sizes: Rows of each component, (G,).
        alone: The components of one row in random order, (A,).
        num_folds: K.
    """
    has = _in_folds(fold_of, owners, labels, num_folds)
    rows_in = has.sum(1)
    class_of = np.empty(len(fold_of), np.int64)
    class_of[owners] = labels
    for c in np.unique(class_of[alone]):
        singles = alone[class_of[alone] == c]
        more = _filled(has[:, c], rows_in, len(singles))
        fold_of[singles] = np.repeat(np.arange(num_folds), more)
        rows_in += more


def _fill_with_labels(
    fold_of: np.ndarray,
    owners: np.ndarray,
    labels: np.ndarray,
    sizes: np.ndarray,
    alone: np.ndarray,
    num_folds: int,
) -> None:
    """As `_fill_with_classes`, by iterative stratification: each label of each row has an owner, (M,)."""
    wanted = np.bincount(labels) / num_folds - _in_folds(fold_of, owners, labels, num_folds)
    given = fold_of >= 0
    room = sizes.sum() / num_folds - np.bincount(fold_of[given], sizes[given], minlength=num_folds)
    place = np.full(len(fold_of), -1)
    place[alone] = np.arange(len(alone))
    own = place[owners] >= 0
    texts = place[owners[own]], np.ones(len(alone), np.int64), np.arange(len(alone))
    fold_of[alone] = give_away(labels[own], *texts, wanted, room)


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
    rows, classes = _labels_of_rows(strata)
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
