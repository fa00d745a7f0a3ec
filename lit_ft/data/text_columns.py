"""The text of a row: made of several columns, and a second text beside it.

N rows, B rows of a batch, K columns.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from lit_ft.errors import shorten

TEXT, PAIR, SPANS = "text", "pair", "spans"  # columns that `TextSource.select` makes
NAME_END = ": "  # between a column's name and its value
BESIDE = " ‖ "  # between the two texts of a pair where people read them


def separator_of(text: str) -> str:
    """A separator as it is meant: shells hand over a backslash and an n."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def is_blank(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether texts are missing or white space alone, (B,) bool."""
    return pc.equal(pc.fill_null(pc.utf8_trim_whitespace(values), ""), "")


def join(
    values: Sequence[pa.ChunkedArray], separator: str, names: Sequence[str] | None
) -> tuple[pa.ChunkedArray, pa.Array]:
    """Join the columns of each row into one text; blank values are left out, with name and separator.

    Args:
        values: K columns of (B,) strings.
        separator: Between two values.
        names: The names to put before the values, or None.

    Returns:
        The texts, null if all values are blank, (B,); and their `spans`: the starts and ends of the values in
        the text, in letters, (B, 2 x the values there).
    """
    blank = np.array([is_blank(column).to_numpy() for column in values])  # (K, B)
    parts, before = [], []
    for k, column in enumerate(values):
        kept = pc.if_else(pa.array(~blank[k]), column, pa.scalar(None, pa.string()))
        head = f"{names[k]}{NAME_END}" if names else ""
        parts.append(pc.binary_join_element_wise(head, kept, "") if head else kept)
        before.append(len(head))
    none = pa.array(blank.all(0))
    parts[0] = pc.if_else(none, "", parts[0])  # pyarrow 26 (binary_join_element_wise) drops nulls alone
    text = pc.binary_join_element_wise(*parts, separator, null_handling="skip")
    text = pc.if_else(none, pa.scalar(None, pa.string()), text)
    letters = [pc.fill_null(pc.utf8_length(column), 0).to_numpy() for column in values]
    ends, spans = np.zeros(blank.shape[1], np.int64), np.zeros((blank.shape[1], len(values), 2), np.int32)
    for k, there in enumerate(~blank):
        start = ends + np.where(ends > 0, len(separator), 0) + before[k]
        spans[:, k, 0], spans[:, k, 1] = start, start + letters[k]
        ends = np.where(there, start + letters[k], ends)
    offsets = np.r_[0, np.cumsum(2 * (~blank).sum(0))].astype(np.int32)
    return text, pa.ListArray.from_arrays(pa.array(offsets), pa.array(spans[~blank.T].ravel()))


def pairs_of(texts: Dataset) -> pa.ChunkedArray | None:
    """The second text of each row, (N,), which may be empty; None without a `data.pair_column`."""
    return texts.data.column(PAIR) if PAIR in texts.column_names else None


def shown_texts(row: dict[str, str], most: int) -> str:
    """A row's text for a person, shortened to `most` letters; of a pair, both texts to half as many."""
    if not (pair := row.get(PAIR)):
        return shorten(row[TEXT], most)
    return f"{shorten(row[TEXT], most // 2)}{BESIDE}{shorten(pair, most // 2)}"


def both(texts: Sequence[str], pairs: Sequence[str]) -> list[str]:
    """Each text with its second one in a line below, for word counts."""
    return [f"{text}\n{pair}" if pair else text for text, pair in zip(texts, pairs, strict=True)]


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
    """The tokens that are left of each part if the longest one is cut first, as tokenizers cut pairs.

    The shortest part gets its share of the room or less, the next one its share of what is left, and so on.
    With two parts that is `longest_first` of the tokenizers library (utils/truncation.rs).

    Args:
        lengths: Tokens of each part, (K,).
        room: Tokens of all together.
    """
    kept = list(lengths)
    for place, k in enumerate(sorted(range(len(lengths)), key=lambda k: (lengths[k], k))):
        kept[k] = min(lengths[k], room // (len(lengths) - place))
        room -= kept[k]
    return kept


def part_of_tokens(offsets: Sequence[tuple[int, int]], spans: Sequence[int]) -> np.ndarray:
    """The column that each token of a joined text is of, (T,) int64; -1 for separators and names.

    A token belongs where its last letter is: byte-level tokens begin with the space before the word.

    Args:
        offsets: The first letter of each token, and the one after its last, (T, 2).
        spans: Of `join`, for this text.
    """
    last = np.array([max(end - 1, start) for start, end in offsets], dtype=np.int64)
    column = np.searchsorted(np.array(spans[::2]), last, side="right") - 1
    inside = (column >= 0) & (last < np.array(spans[1::2])[column])
    return np.where(inside, column, -1)
