"""Texts -> rows: joined and cut into blocks, or one text per row; cached; losses are reported."""

import warnings

import numpy as np
import pytest
from conftest import SHARED
from datasets import Dataset, load_dataset
from mlm_tiny import byte_tokenizer, texts, word_tokenizer

from lit_ft.data.packing import SHORTEST_TAIL, blocks_of, lay_out
from lit_ft.errors import UserError


def table_of(given: list[str]) -> Dataset:
    return Dataset.from_dict({"text": given, "label": list(range(len(given)))})


def joined_by_hand(tokenizer, given: list[str]) -> list[int]:
    ids: list[int] = []
    for text in given:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += ([tokenizer.sep_token_id] if ids and own else []) + own
    return ids


@pytest.mark.parametrize("make", [word_tokenizer, byte_tokenizer])
def test_pack_by_hand(make):
    tokenizer, given = make(), texts(40)
    packed, line = lay_out(table_of(given), tokenizer, "pack", 16)
    assert packed.column_names == ["input_ids"]
    stream = joined_by_hand(tokenizer, given)
    expected = [stream[i : i + 14] for i in range(0, len(stream), 14)]
    tail = expected[-1] if len(expected[-1]) <= SHORTEST_TAIL * 14 else []
    expected = expected[:-1] if tail else expected
    assert packed["input_ids"][:] == [
        [tokenizer.cls_token_id, *row, tokenizer.sep_token_id] for row in expected
    ]
    assert line.startswith(f"40 texts packed into {len(expected)} rows of 16 tokens")
    assert ("dropped" in line) == bool(tail)


@pytest.mark.parametrize(("length", "num_rows", "dropped"), [(28, 2, 0), (31, 2, 3), (32, 3, 0), (41, 3, 0)])
def test_short_tail_is_dropped_and_said(length, num_rows, dropped):
    """Blocks of 14: 3 remaining tokens are less than a quarter, 4 are more."""
    packed, line = lay_out(table_of(["the " * length]), word_tokenizer(), "pack", 16)
    assert len(packed) == num_rows
    assert ("dropped" in line) == bool(dropped)
    if dropped:
        assert f"; {dropped} tokens, too few for a row" in line


def test_empty_texts_leave_no_trace():
    tokenizer = word_tokenizer()
    with_empty, line = lay_out(table_of(["", *texts(9), "", " "]), tokenizer, "pack", 16)
    assert with_empty["input_ids"][:] == lay_out(table_of(texts(9)), tokenizer, "pack", 16)[0]["input_ids"][:]
    assert line.startswith("9 texts")


def test_blocks_of():
    blocks, rest = blocks_of(np.array([1, 2, 3, 4, 5, 6]), np.array([2, 0, 3, 1]), separator=9, room=3)
    assert blocks.tolist() == [[1, 2, 9], [3, 4, 5]] and rest.tolist() == [9, 6]
    blocks, rest = blocks_of(np.array([], dtype=np.int32), np.array([0, 0]), separator=9, room=3)
    assert blocks.shape == (0, 3) and len(rest) == 0


def test_batches_of_texts_are_packed_one_by_one(monkeypatch):
    monkeypatch.setattr("lit_ft.data.packing.JOINED_TEXTS", 10)
    tokenizer, given = word_tokenizer(), texts(25)
    packed, _ = lay_out(table_of(given), tokenizer, "pack", 16)
    parts = [
        lay_out(table_of(given[i : i + 10]), tokenizer, "pack", 16)[0]["input_ids"][:] for i in (0, 10, 20)
    ]
    assert packed["input_ids"][:] == [row for part in parts for row in part]


def test_truncate():
    tokenizer, given = word_tokenizer(), texts(30)
    rows, line = lay_out(table_of(given), tokenizer, "truncate", 16)
    assert rows.column_names == ["input_ids"]
    expected = tokenizer(given, truncation=True, max_length=16)["input_ids"]
    assert rows["input_ids"][:] == expected
    cut = sum(len(tokenizer(text)["input_ids"]) > 16 for text in given)
    assert f"{cut} ({cut / 30:.1%}) cut at 16 tokens" in line


@pytest.mark.parametrize("layout", ["pack", "truncate"])
def test_cached_by_content_and_settings(layout, tmp_path):
    def load(given):
        file = tmp_path / f"{len(given)}.txt"
        if not file.exists():  # datasets uses the time of writing
            file.write_text("\n".join(given))
        return load_dataset("text", data_files=str(file), cache_dir=str(tmp_path), split="train")

    first, _ = lay_out(load(texts(30)), word_tokenizer(), layout, 16)
    again, line = lay_out(load(texts(30)), word_tokenizer(), layout, 16)
    assert first.cache_files and again.cache_files == first.cache_files
    assert line == lay_out(load(texts(30)), word_tokenizer(), layout, 16)[1]  # also when cached
    for other in (
        lay_out(load(texts(30)), word_tokenizer(), layout, 24)[0],
        lay_out(load(texts(30)), byte_tokenizer(), layout, 16)[0],
        lay_out(load(texts(31)), word_tokenizer(), layout, 16)[0],
    ):
        assert other.cache_files != first.cache_files


def test_a_selection_of_rows_is_followed():
    tokenizer, given = word_tokenizer(), texts(30)
    chosen = table_of(given).select([4, 9, 2])
    packed, _ = lay_out(chosen, tokenizer, "pack", 16)
    by_hand, _ = lay_out(table_of([given[i] for i in (4, 9, 2)]), tokenizer, "pack", 16)
    assert packed["input_ids"][:] == by_hand["input_ids"][:]


def test_long_texts_bring_no_warning(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lay_out(table_of(["the great movie " * 100]), word_tokenizer(), "pack", 16)
    assert "longer than the specified maximum" not in capfd.readouterr().err


def test_too_little_text():
    with pytest.raises(
        UserError, match="one block of 64 tokens, found 2 tokens in 1 texts; set --data.max_tokens"
    ):
        lay_out(table_of(["great movie"]), word_tokenizer(), "pack", 64)


def test_no_separator():
    tokenizer = word_tokenizer()
    tokenizer.sep_token = None
    with pytest.raises(UserError, match="separator token.*--data.layout=truncate"):
        lay_out(table_of(texts(3)), tokenizer, "pack", 16)


@pytest.mark.skipif(
    not (SHARED / "models/minilm-l6").is_dir(), reason="the shared real data is not on this machine"
)
def test_real_reviews(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "models/minilm-l6")
    files = str(SHARED / "data/yelp/train.csv")
    reviews = load_dataset("csv", data_files=files, cache_dir=str(tmp_path), split="train").select(range(300))
    packed, _ = lay_out(reviews, tokenizer, "pack", 128)
    assert {len(row) for row in packed["input_ids"][:-1]} == {128}
    assert packed["input_ids"][0][:1] == [tokenizer.cls_token_id]
    total = sum(
        len(tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"]) for t in reviews["text"]
    )
    assert len(packed) == pytest.approx((total + 299) / 126, abs=1)
