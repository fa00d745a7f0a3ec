"""Which rows of the training data are held out for validation. N rows, C classes."""

from itertools import pairwise

import numpy as np

from lit_ft.errors import UserError

LEAST_ROWS = 2  # held out at least, however few there are
MOST_TRIES, MOST_TRIED = 20, 100_000  # orders of components, and components of all orders: a second
MOST_OVER = 2  # up to twice the share may be held out, so that every class has a row


def components(*keys: np.ndarray) -> np.ndarray:
    """The number of each row's component: rows that share any key, also through others, have the same.

    Args:
        keys: Of each row, (N,) each, such as its group and its text.

    Returns:
        (N,) int64, from 0, in the order in which the components first occur.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes: list[np.ndarray] = []  # each value of each key is a node, each row joins those that it has
    size = 0
    for each in keys:
        nodes.append(np.unique(each, return_inverse=True)[1] + size)
        size = int(nodes[-1].max(initial=size - 1)) + 1
    rows, columns = np.tile(nodes[0], len(nodes)), np.concatenate(nodes)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][nodes[0]]
    _, firsts, number = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[number]


def stratified_split(
    labels: np.ndarray, share: float, seed: int, keys: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of the training rows for validation, about the same share of each class.

    A class with at least two different texts gets a row in both parts. If that would hold out more than twice
    the share, the rows go to the classes with the largest remainders instead. Rows with equal keys stay
    together, unless no class has two different texts. A text with more copies than its class has to give
    stays in training.

    Args:
        labels: Classes, int64 (N,).
        share: Share of the rows to hold out.
        seed: The same seed gives the same split.
        keys: Equal for rows with equal texts, (N,); None if all differ.

    Returns:
        The indices of training and of validation, both ascending.

    Raises:
        UserError: No class has a row to spare.
    """
    counts, quota, most = _plan(labels, share, seed)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    firsts = np.cumsum(counts) - counts  # start of each class in `grouped`
    held_out = np.empty(0, np.int64)
    if keys is not None and len(np.unique(keys)) < len(keys):
        by_class = [grouped[first : first + count] for first, count in zip(firsts, counts, strict=True)]
        held_out = _whole_texts(labels, by_class, quota, keys, most)
    if not len(held_out):  # all texts differ; or no class has two, and copies are held out
        rank = np.arange(len(labels)) - np.repeat(firsts, counts)
        held_out = grouped[rank < quota[labels[grouped]]]
    return np.setdiff1d(np.arange(len(labels)), held_out), np.sort(held_out)


def split_components(
    labels: np.ndarray, share: float, seed: int, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole components, about the share of each class; each class keeps a row to train on.

    The components are gone through in random order, and one is held out if that brings the classes closer to
    their quotas. Of several orders the closest is kept. If every component is too large, the one that comes
    closest is held out.

    Args:
        labels: Classes, int64 (N,).
        share: Share of the rows to hold out.
        seed: The same seed gives the same split.
        parts: The component of each row, int64 (N,), from 0.

    Returns:
        The indices of training and of validation, both ascending; none of validation if no component can be
        held out.

    Raises:
        UserError: No class has a row to spare.
    """
    counts, quota, _ = _plan(labels, share, seed)
    cells, rows = np.unique(parts * len(counts) + labels, return_counts=True)
    owners, classes = np.divmod(cells, len(counts))
    starts = np.append(np.flatnonzero(np.diff(owners, prepend=-1)), len(cells))
    own = [(classes[s:e], rows[s:e]) for s, e in pairwise(starts)]  # what each component has of each class
    tries = int(np.clip(MOST_TRIED // len(own), 1, MOST_TRIES))
    found = [_taken(own, counts, quota, np.random.default_rng((seed, number))) for number in range(tries)]
    taken = min(found, key=lambda one: one[1])[0]
    held_out = np.isin(parts, taken)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _taken(
    own: list[tuple[np.ndarray, np.ndarray]], counts: np.ndarray, quota: np.ndarray, rng: np.random.Generator
) -> tuple[list[int], float]:
    """The components to hold out in one random order, and how far their classes are from the quotas."""
    due, left, taken = quota.copy(), counts.copy(), []
    nearest, nearest_off = None, np.inf
    for part in rng.permutation(len(own)):
        classes, rows = own[part]
        if (left[classes] <= rows).any():
            continue
        gain = int(np.abs(due[classes]).sum() - np.abs(due[classes] - rows).sum())
        if gain > 0:
            due[classes] -= rows
            left[classes] -= rows
            taken.append(int(part))
        elif not taken and -gain < nearest_off:
            nearest, nearest_off = int(part), -gain
    if not taken and nearest is not None:
        return [nearest], float(np.abs(due).sum() + nearest_off)
    return taken, float(np.abs(due).sum()) if taken else np.inf


def _plan(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows of each class (C,), how many of them to hold out (C,), and the most in all if some go together."""
    if not 0 < share < 1:
        raise UserError(f"expected a share between 0 and 1, found {share}; set --data.validation_share=0.05")
    counts = np.bincount(labels)
    if not (counts >= 2).any():
        raise UserError(
            f"expected a class with at least two rows, to hold one out for validation, found {len(labels)} "
            "rows with at most one of each; give more rows or set --data.validation_path"
        )
    asked = max(round(len(labels) * share), LEAST_ROWS)
    each = np.minimum(counts // 2, 1).sum() <= MOST_OVER * asked  # class that can give a row gives one
    return counts, _quota(counts, share, each, seed), MOST_OVER * asked if each else asked


def shown_share(labels: np.ndarray, held_out: np.ndarray, share: float) -> str:
    """The share that was asked for, and how the held-out rows, (M,) of the labels (N,), differ from it.

    Of several labels a row they are (M, C) and (N, C).
    """
    found, several = len(held_out) / len(labels), labels.ndim == 2
    classes, known = (int(of.any(0).sum()) if several else len(np.unique(of)) for of in (labels, held_out))
    without, what = classes - known, "labels" if several else "classes"
    parts = [f"data.validation_share={share}"]
    if abs(found - share) > share / 4:
        parts.append(f"they are {found:.1%}")
    if without:
        parts.append(f"no row of {without:,} of {classes:,} {what}")
    return "; ".join(parts)


def _quota(counts: np.ndarray, share: float, each: bool, seed: int) -> np.ndarray:
    """How many rows each class gives, (C,); with `each`, at least one if it has two."""
    most = np.maximum(counts - 1, 0)
    least = np.minimum(1, most) if each else 0
    quota = np.clip(np.floor(counts * share).astype(np.int64), least, most)
    # the rows still missing go to the classes that lost most by rounding down
    short = max(round(counts.sum() * share), 1) - int(quota.sum())
    if short > 0:
        lost = np.where(quota < most, counts * share - quota, -np.inf)
        # Without `each` many classes lost equally much: choose at random, not by their order.
        ties = np.arange(len(counts)) if each else np.random.default_rng((seed, 1)).permutation(len(counts))
        best = np.lexsort((ties, -lost))[:short]
        quota[best[lost[best] > 0]] += 1
    return quota


def _whole_texts(
    labels: np.ndarray, by_class: list[np.ndarray], quota: np.ndarray, keys: np.ndarray, most: int
) -> np.ndarray:
    """The rows to hold out if some texts are equal; none if no class can give a text and keep one.

    Args:
        labels: Classes, (N,).
        by_class: The rows of each class, in random order.
        quota: How many rows each class gives, (C,).
        keys: Equal for rows with equal texts, (N,).
        most: Rows that may be held out so that every class has one.
    """
    _, text_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    members, ends = np.argsort(text_of, kind="stable"), np.cumsum(sizes)  # the rows of each text, contiguous
    due, left = quota.copy(), np.array([len(rows) for rows in by_class])
    taken = np.zeros(len(sizes), bool)
    lowest = np.minimum.reduceat(labels[members], ends - sizes)
    of_one_class = lowest == np.maximum.reduceat(labels[members], ends - sizes)

    def take(text: int, always: bool) -> bool:
        """Hold a text out if that brings its classes closer to their quotas and leaves each a text."""
        if taken[text]:
            return False
        own = labels[members[ends[text] - sizes[text] : ends[text]]]
        classes, rows = (own[:1], len(own)) if of_one_class[text] else np.unique(own, return_counts=True)
        nearer = np.abs(due[classes] - rows).sum() < np.abs(due[classes]).sum()
        if not (nearer or always) or (left[classes] <= rows).any():
            return False
        due[classes] -= rows
        left[classes] -= rows
        taken[text] = True
        return True

    for c in np.flatnonzero(quota):
        for text in text_of[by_class[c]]:
            if due[c] <= 0:
                break
            if not of_one_class[text] or sizes[text] < 2 * due[c]:  # else never closer
                take(text, always=False)
    # If all texts of a class have more copies than its quota: take the one with the fewest, if that is few.
    for c in [*np.flatnonzero(quota), *np.flatnonzero(quota == 0)]:
        if not taken[text_of[by_class[c]]].any() and (quota[c] or not taken.any()):
            for text in sorted(text_of[by_class[c]], key=lambda text: sizes[text]):
                few = sizes[taken].sum() + sizes[text] <= most or not taken.any()
                if not few or take(text, always=True):
                    break
    return np.flatnonzero(taken[text_of])
