"""Unknown tokens, lost letters and special tokens: counted by hand, and reported."""

import json

import numpy as np
import pytest
from conftest import one_line, review, write_csv
from datasets import Dataset
from families import BERT, family, family_tokenizer
from mlm_tiny import byte_tokenizer, word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_ft.data.packing import lay_out
from lit_ft.data.token_facts import lines_about, lost_letters, special_token_ids, token_facts, unknown_id
from lit_ft.data.tokens import encode, template_of


def facts_of(texts, tokenizer, max_tokens=32):
    table = Dataset.from_dict({"text": texts})
    for _ in range(2):  # the second time from the cache
        encoded, _ = encode(table, tokenizer, max_tokens, "head", "test")
        found = token_facts(encoded, table, tokenizer, template_of(tokenizer))
    return table, found


TEXTS = ["the movie was great", "the [SEP] plot [MASK]", "\u597d \u574f", "[SEP] fine [PAD] [UNK]", "\u200b"]


def test_counts_by_hand():
    tokenizer = word_tokenizer()
    table, found = facts_of(TEXTS, tokenizer)
    assert (found.tokens, found.unknown) == (4 + 4 + 2 + 4 + 0, 3)  # [UNK] written out counts as one
    sep, mask, pad = (tokenizer.convert_tokens_to_ids(t) for t in ("[SEP]", "[MASK]", "[PAD]"))
    assert {i: places.tolist() for i, places in found.special.items()} == {sep: [1, 3], mask: [1], pad: [3]}
    assert found.with_special.tolist() == [1, 3] and found.without_token.tolist() == [4]
    lines = lines_about(found, tokenizer, table, np.array([2, 3, 5, 7, 11]), "a.csv")
    assert [line.split(": ")[0] for line in lines] == [
        "21.4% of the tokens of a.csv are unknown to the model's tokenizer, such as '\u597d' in row 5",
        "2 of 5 texts of a.csv hold special tokens of the tokenizer, such as '[PAD]' in row 7",
        "1 of 5 texts of a.csv have no token, such as '\\u200b' in row 11",
    ]


def test_rows_beyond_three_are_counted():
    table, found = facts_of(["a [SEP] b"] * 7, word_tokenizer())
    (line,) = lines_about(found, word_tokenizer(), table, np.arange(1, 8), "a.csv")
    assert "7 of 7 texts" in line and "in rows 1, 2, 3 and 4 more: they are read as such" in line


def test_sound_texts_are_no_word_worth():
    for tokenizer in (word_tokenizer(), byte_tokenizer()):
        table, found = facts_of([review(i % 5 + 1, i) for i in range(50)], tokenizer)
        assert lines_about(found, tokenizer, table, np.arange(50), "a.csv") == []
        assert (found.unknown or 0, found.lost, len(found.special)) == (0, 0.0, 0)


def test_many_chunks_and_a_cut():
    """A special token that is cut off does not count; rows are counted over chunks of 1,000."""
    texts = ["the film " * (i % 9 + 1) + ("[SEP]" if i % 700 == 0 else "") for i in range(2500)]
    _, found = facts_of(texts, word_tokenizer())
    assert found.with_special.tolist() == [0, 700, 1400, 2100]
    _, found = facts_of(texts, word_tokenizer(), max_tokens=4)
    assert found.with_special.tolist() == []


def without_unknown() -> PreTrainedTokenizerFast:
    """Unknown text is dropped."""
    backend = Tokenizer(models.BPE({"<pad>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


def test_a_long_run_without_a_space_is_one_unknown_token():
    """WordPiece gives up on more than 100 letters, as a sentence of Thai has: few tokens, many letters."""
    texts = ["great" * 30 + " the film was so fine" * 20]
    table, found = facts_of(texts, word_tokenizer())
    assert found.unknown == 1 and found.unknown_share < 0.04
    assert found.unknown_letters == pytest.approx(150 / (150 + 16 * 20))
    lines = lines_about(found, word_tokenizer(), table, np.arange(1) + 1, "a.csv")
    assert len(lines) == 1 and "of the tokens of a.csv, with 32% of its letters, are unknown to" in lines[0]


def test_letters_that_no_token_holds():
    assert lost_letters(["ab \u597d\u574f ab!", "ab"], without_unknown()) == pytest.approx(2 / 8)
    assert lost_letters(["caf\u00e9 e\u0301t\u00e9 \U0001f600", "\u597d"], byte_tokenizer()) == 0
    table, found = facts_of(["ab \u597d\u574f"] * 3, without_unknown())
    lines = lines_about(found, without_unknown(), table, np.arange(3), "a.csv")
    assert lines[0].startswith("50.0% of the letters and digits of a.csv are in no token")


def test_which_tokens_are_special():
    """GPT-2 also names its end of text as unknown token; added tokens are special if marked so."""
    tokenizer = family_tokenizer({"unk": "<end>", "pad": "<end>", "eos": "<end>"}, "$A")
    assert unknown_id(tokenizer) is None and special_token_ids(tokenizer) == {0}
    tokenizer = family_tokenizer(BERT, "[CLS] $A [SEP]")
    assert unknown_id(tokenizer) == 1 and special_token_ids(tokenizer) == {0, 2, 3, 4}
    tokenizer.add_tokens(["covid"])
    tokenizer.add_tokens(["<user>"], special_tokens=True)
    assert special_token_ids(tokenizer) == {0, 2, 3, 4, tokenizer.convert_tokens_to_ids("<user>")}


def test_fit_says_it_each_time(lit_ft, fit_args, work):
    rows = [(i % 5 + 1, f"\u597d \u574f \u997f {review(i % 5 + 1, 0)}") for i in range(60)]
    write_csv(work / "train.csv", [*rows, (1, "a [SEP] in the film")])
    args = [*fit_args, "--trainer.max_epochs", "1"]
    for _ in range(2):  # the second time token ids are in the cache
        code, out, err = lit_ft("fit", *args)
        assert code == 0, err
        assert (
            "of the tokens of train.csv are unknown to the model's tokenizer, such as '\u597d' in row 1"
            in err
        )
        assert "it reads each as [UNK]; set --model.pretrained to a model for texts of this language" in err
        assert (
            "1 of 61 texts of train.csv hold special tokens of the tokenizer, such as '[SEP]' in row 61"
            in err
        )
    assert "(cached)" in out


@pytest.mark.parametrize("layout", ["pack", "truncate"])
def test_sft_says_it(layout, lit_ft, sft_args, work):
    lines = ["\u597d \u574f the film", "the [SEP] plot was fine", "\u200b"] * 40
    (work / "texts.txt").write_text("\n".join(lines) + "\n")
    args = [*sft_args, "--max_steps", "1", "--probes", "[]", "--data.layout", layout]
    code, out, err = lit_ft("sft", *args, "--data.validation_path", "texts.txt")
    assert code == 0, err
    for split in ("train", "validation"):
        assert f"of the tokens of {split} are unknown to the model's tokenizer, such as" in err
        assert (
            f"40 of 120 texts of {split} hold special tokens of the tokenizer, such as '[SEP]' in rows 2"
            in err
        )
        assert (
            f"40 of 120 texts of {split} have no token, such as '\\u200b' in rows 3, 6, 9 and 37 more" in err
        )


def test_texts_without_a_token_are_no_rows_to_learn_from():
    table = Dataset.from_dict({"text": ["the film", "\u200b", "fine", "\u200b\u200b"]})
    rows, line = lay_out(table, word_tokenizer(), "truncate", 16)
    assert [len(ids) for ids in rows["input_ids"]] == [4, 3] and "none is cut" in line


def test_a_text_without_a_token(lit_ft, fit_args, work, tmp_path):
    """BERT reads [CLS] [SEP]; a model whose tokenizer adds nothing would get an empty row."""
    rows = [(i % 5 + 1, review(i % 5 + 1, i // 5)) for i in range(60)]
    write_csv(work / "train.csv", [*rows[:6], (1, "\u200b"), *rows[6:]])
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
    assert code == 0 and "1 of 61 texts of train.csv have no token, such as '\\u200b' in row 7" in err, err
    folder = family("gpt2", tmp_path / "m", names=["input_ids", "attention_mask"])
    backend = without_unknown()
    assert template_of(backend).size == 0 and backend("\u597d")["input_ids"] == []
    backend.save_pretrained(folder)
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", str(folder)))
    assert line.startswith("expected a token in each text of train.csv, found none in row")


def test_check_says_it(lit_ft, fit_args, work):
    rows = [(i % 5 + 1, f"\u597d {i} \u574f \u997f [SEP]") for i in range(50)]
    write_csv(work / "train.csv", [*rows, (1, "\u200b")])
    code, out, err = lit_ft("check", *fit_args)
    assert code == 0, err
    *_, verdict, _ = out.splitlines()  # before the next command
    share = 100 * 4 / 5  # of five tokens [SEP] alone is known; digits are not
    assert f"{share:.1f}% of the train tokens are unknown to the model's tokenizer" in verdict
    assert "% of the test tokens" not in verdict and "no leakage" not in verdict
    assert "of train with special tokens of the tokenizer, which are read as such" in out
    assert "with no token: the model sees nothing of them" in out
    code, out, err = lit_ft("check", *fit_args, "--json")
    tokens = [split["tokens"] for split in json.loads(out)["splits"].values()]
    assert sum(t["special_texts"] for t in tokens) == 50 and sum(t["empty_texts"] for t in tokens) == 1
