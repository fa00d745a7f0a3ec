"""Which rows of a multi-label corpus are held out: about the same share of each label, and of those without.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data",
algorithm 1), with two changes: what is given away is a text with all of its copies, not a row, and a label
with two texts or more is wanted once at least on the side that is held out. The packages that have the
algorithm (iterative-stratification 0.1.9 of October 2024, scikit-multilearn 0.2.0 of December 2018) divide
rows: the copies of a text would be torn apart.

N rows, C labels, G texts.
"""

import numpy as np

from lit_ft.data.holdout import LEAST_ROWS, MOST_OVER
from lit_ft.errors import UserError

LEAST_SHARE = 0.75  # of the rows that were asked for, below which more are held out


def iterative_split(
    tags: np.ndarray, share: float, seed: int, keys: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of the training rows, about the same share of each label.

    Args:
        tags: Which labels each row has, (N, C) bool.
        share: Share of the rows to hold out.
        seed: The same seed gives the same split.
        keys: Rows with equal keys stay together, (N,); None if all differ.

    Returns:
        The indices of training and of validation, both ascending.

    Raises:
        UserError: There are not two texts.
    """
    if not 0 < share < 1:
        raise UserError(f"expected a share between 0 and 1, found {share}; set --data.validation_share=0.05")
    keys = np.arange(len(tags)) if keys is None else keys
    _, text_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise UserError(
            f"expected at least two different texts, to hold one out for validation, found {len(sizes)} in "
            f"{len(tags)} rows; give more rows or set --data.validation_path"
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    tags = np.column_stack([tags, ~tags.any(1)])  # to have no label is one more to stratify by
    rows, columns = np.nonzero(tags)
    counts = tags.sum(0)  # (C + 1,)
    asked = min(max(round(len(tags) * share), LEAST_ROWS), len(tags) - 1)
    wanted = counts * share
    texts_with = np.bincount(np.unique(np.stack([columns, text_of[rows]]), axis=1)[0], minlength=len(counts))
    if (texts_with >= 2).sum() <= MOST_OVER * asked:
        wanted = np.where(texts_with >= 2, np.maximum(wanted, 1), wanted)
    sides = np.stack([counts - wanted, wanted]), np.array([len(tags) - asked, asked], float)
    side = give_away(columns, text_of[rows], sizes, order, *sides)
    of_text = _labels_of_texts(columns, text_of[rows], len(sizes))
    _fill_up(side, order.tolist(), of_text, sizes.tolist(), asked)
    if not (side == 1).any() or (side == 1).all():  # a handful of texts
        side[order] = np.arange(len(sizes)) == 0
    found = (side == 1)[text_of]
    return np.flatnonzero(~found), np.flatnonzero(found)


def _labels_of_texts(labels: np.ndarray, texts: np.ndarray, num_texts: int) -> list[list[tuple[int, int]]]:
    """The labels of each text with the number of its rows that have them, from (M,) each.

    They are plain lists: the loops look at one text at a time, where numpy would be slower.
    """
    num_labels = int(labels.max(initial=0)) + 1
    pairs, times = np.unique(texts * num_labels + labels, return_counts=True)
    found: list[list[tuple[int, int]]] = [[] for _ in range(num_texts)]
    for pair, count in zip(pairs.tolist(), times.tolist(), strict=True):
        text, label = divmod(pair, num_labels)
        found[text].append((label, count))
    return found


def _fill_up(
    side: np.ndarray, order: list[int], of_text: list[list[tuple[int, int]]], rows_of: list[int], asked: int
) -> None:
    """Hold out more texts if far too few are: of very rare labels each text is wanted more in training.

    First those whose labels all have another text to train on, then any.
    """
    left = np.bincount([label for text in order if side[text] == 0 for label, _ in of_text[text]])
    held = sum(rows_of[text] for text in np.flatnonzero(side == 1).tolist())
    for needed in (1, 0):
        for text in order:
            if held >= asked * LEAST_SHARE:
                return
            if side[text] == 0 and all(left[label] > needed for label, _ in of_text[text]):
                side[text] = 1
                held += rows_of[text]
                for label, _ in of_text[text]:
                    left[label] -= 1


def give_away(
    labels: np.ndarray,
    texts: np.ndarray,
    sizes: np.ndarray,
    order: np.ndarray,
    wanted: np.ndarray,
    room: np.ndarray,
) -> np.ndarray:
    """The side to which each text is given, (G,) int64 in [0, S). S sides.

    Args:
        labels: Of each label of each row, (M,).
        texts: The text of it, (M,).
        sizes: Rows of each text, (G,).
        order: An order of the texts, (G,), such as a random one.
        wanted: Rows with each label that each side wants, (S, C).
        room: Rows that it wants at all, (S,).
    """
    num_texts, num_labels = len(sizes), wanted.shape[1]
    place = np.empty(num_texts, np.int64)
    place[order] = np.arange(num_texts)
    of_text = _labels_of_texts(labels, texts, num_texts)
    of_label: list[list[int]] = [[] for _ in range(num_labels)]
    for text, own in enumerate(of_text):
        for label, _ in own:
            of_label[label].append(text)
    desire = wanted.T.tolist()  # of each label by each side
    rooms = room.tolist()
    sides = range(len(rooms))
    left = [len(found) for found in of_label]  # texts not given away
    side = np.full(num_texts, -1)
    rows_of = sizes.tolist()

    def give(text: int, to: int) -> None:
        side[text] = to
        rooms[to] -= rows_of[text]
        for label, count in of_text[text]:
            desire[label][to] -= count
            left[label] -= 1

    open_labels = {label for label in range(num_labels) if left[label]}
    while open_labels:
        rarest = min(open_labels, key=lambda label: (left[label], label))
        wants = desire[rarest]
        for text in sorted(of_label[rarest], key=place.__getitem__):
            if side[text] < 0:  # the side that wants the label most; of equal ones that with the most room
                give(text, max(sides, key=lambda to: (wants[to], rooms[to])))
        open_labels = {label for label in open_labels if left[label]}
    return side
