"""Which tokens make a word, also in scripts that put no spaces between words."""

import random

import numpy as np
import pytest
from conftest import one_line
from datasets import Dataset
from mlm_tiny import byte_tokenizer, word_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from lit_ft.masked_lm.masking import BYTES, IGNORED, MaskingCollator, tell_of_words

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CHINESE = "\u8fd9\u5bb6\u9152\u5e97\u7684\u623f\u95f4\u5f88\u5e72\u51c0"
LAO = "\u0eab\u0ec9\u0ead\u0e87\u0e9e\u0eb1\u0e81\u0eaa\u0eb0\u0ead\u0eb2\u0e94"
BURMESE = "\u1021\u1001\u1014\u103a\u1038\u101e\u1014\u1037\u103a\u101b\u103e\u1004\u103a\u1038"
JAPANESE = "\u3053\u306e\u30db\u30c6\u30eb\u306f\u3068\u3066\u3082\u3044\u3044\u3067\u3059"
THAI = "\u0e2b\u0e49\u0e2d\u0e07\u0e1e\u0e31\u0e01\u0e2a\u0e30\u0e2d\u0e32\u0e14\u0e21\u0e32\u0e01"


def finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in names.items()}
    )


def sentencepiece(letters: str, pieces: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """As XLM-R's: Unigram, the blank as U+2581."""
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(piece, -1.0) for piece in ("\u2581", *pieces)] + [(c, -5.0) for c in sorted(set(letters))]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return finished(backend)


def byte_level(merges: tuple[tuple[str, str], ...] = ()) -> PreTrainedTokenizerFast:
    """As RoBERTa's; without merges each byte is a token."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return finished(backend)


def wordpiece(letters: str) -> PreTrainedTokenizerFast:
    """As BERT's, without its splitting of Chinese characters."""
    tokens = [*SPECIAL, *sorted(set(letters)), *(f"##{c}" for c in sorted(set(letters)))]
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return finished(backend)


def words(tokenizer, text: str) -> list[list[str]]:
    """The tokens of each word."""
    ids = np.array(tokenizer(text)["input_ids"])
    collator = MaskingCollator(tokenizer, whole_words=True)
    ordinary = np.flatnonzero(~collator.is_special[ids])
    number = collator._units(ids, ordinary)
    tokens = tokenizer.convert_ids_to_tokens(ids[ordinary])
    return [[t for t, n in zip(tokens, number, strict=True) if n == k] for k in range(number[-1] + 1)]


@pytest.mark.parametrize("make", [sentencepiece, wordpiece])
@pytest.mark.parametrize("text", [CHINESE, JAPANESE], ids=["Chinese", "Japanese"])
def test_characters_of_chinese_and_japanese_are_words(make, text):
    found = [word for word in words(make(text), text) if word != ["\u2581"]]
    assert ["".join(w).removeprefix("##") for w in found] == list(text)


def test_pieces_of_several_characters_stay_whole():
    tokenizer = sentencepiece(CHINESE + "abc\uff0c", ("\u9152\u5e97", "\u5f88\u5e72\u51c0", "ab"))
    assert words(tokenizer, "\u8fd9\u9152\u5e97\uff0cabc\u5f88\u5e72\u51c0 cab") == [
        ["\u2581"], ["\u8fd9"], ["\u9152\u5e97"], ["\uff0c"], ["ab", "c"], ["\u5f88\u5e72\u51c0"],
        ["\u2581", "c", "ab"],
    ]  # fmt: skip


def test_signs_of_thai_stay_with_their_letter():
    """U+0E49 and U+0E31 stand over the letter before."""
    found = words(sentencepiece(THAI), THAI)
    assert ["".join(word) for word in found][:4] == ["\u2581", "\u0e2b\u0e49", "\u0e2d", "\u0e07"]
    assert all(len(word) <= 2 for word in found) and len(found) > 10


def test_bytes_of_a_chinese_character_are_one_word():
    found = words(byte_level(), CHINESE + " so \u00e9 caf\u00e9")
    assert [len(word) for word in found] == [3] * len(CHINESE) + [3, 3, 6]
    first, second = "\u00e4\u00b8", "\u0143"  # of U+4E2D, cut after its second byte
    found = words(byte_level(((first[0], first[1]),)), "\u4e2d\u4e2d")
    assert found == [[first, second], [first, second]]


def test_korean_has_spaces():
    text = "\ubc29\uc774 \ub108\ubb34 \uc88b\uc544\uc694"
    assert [len(word) for word in words(sentencepiece(text), text)] == [3, 3, 4]


@pytest.mark.parametrize("make", [sentencepiece, wordpiece, lambda letters: byte_level()])
def test_about_15_percent_of_each_chinese_row(make):
    rng = random.Random(0)
    rows = ["".join(rng.choices(CHINESE, k=rng.randint(12, 30))) for _ in range(200)]
    tokenizer = make(CHINESE)
    collator = MaskingCollator(tokenizer, whole_words=True)
    shares = []
    for text in rows:
        ids = np.array(tokenizer(text)["input_ids"])
        shares.append((collator.mask_row(ids)[1] != IGNORED).sum() / (len(ids) - 2))
    assert np.mean(shares) == pytest.approx(0.15, abs=0.01)
    assert min(shares) > 0.03 and max(shares) < 0.4


@pytest.mark.parametrize("text", [THAI * 3, LAO * 3, BURMESE], ids=["Thai", "Lao", "Burmese"])
def test_what_is_read_as_bytes_is_masked_in_short_pieces_of_whole_characters(text):
    """RoBERTa knows no Thai: the text was one word of all its bytes, masked as a whole or not at all."""
    tokenizer = byte_level()
    found = words(tokenizer, text)
    assert "".join(bytes(BYTES[c] for c in "".join(word)).decode() for word in found) == text
    assert max(map(len, found)) == 15 and len(found) > 1
    ids = np.array(tokenizer(text)["input_ids"])
    masked = MaskingCollator(tokenizer, whole_words=True).mask_row(ids)[1] != IGNORED
    assert masked.sum() < len(ids) / 2
    first = "\u00e0\u00b8"  # the two bytes with which Thai letters begin, as RoBERTa has them
    found = words(byte_level(((first[0], first[1]),)), "\u0e01\u0e02\u0e03")
    assert [len(word) for word in found] == [2, 2, 2]


def test_a_long_word_is_masked_in_pieces():
    assert [len(word) for word in words(sentencepiece("acgt"), "acgt" * 6 + " cat")] == [16, 9, 4]


def test_texts_without_word_boundaries_get_a_line(capfd):
    tokenizer = sentencepiece("acgt")
    letters = random.Random(0)
    strands = ["".join(letters.choices("acgt", k=60)) for _ in range(20)]
    collator = MaskingCollator(tokenizer, whole_words=True)
    tell_of_words(Dataset.from_dict({"input_ids": tokenizer(strands)["input_ids"]}), collator)
    err = capfd.readouterr().err
    assert "data.whole_words finds 20 words in 1,220 tokens, and masks pieces of them of at most 16" in err
    for text in (CHINESE, JAPANESE, THAI):
        tokenizer = sentencepiece(text)
        rows = Dataset.from_dict({"input_ids": tokenizer([text] * 5)["input_ids"]})
        tell_of_words(rows, MaskingCollator(tokenizer, whole_words=True))
        out, err = capfd.readouterr()
        assert "of the tokens are of scripts without spaces between words" in out and not err
    for make in (word_tokenizer, byte_tokenizer):
        tokenizer = make()
        rows = Dataset.from_dict(
            {"input_ids": tokenizer(["the movie was great, i liked it"] * 5)["input_ids"]}
        )
        tell_of_words(rows, MaskingCollator(tokenizer, whole_words=True))
    assert capfd.readouterr() == ("", "")


def test_sft_says_it(lit_ft, sft_args, work):
    tokenizer = sentencepiece("acgt")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained("m")
    tokenizer.save_pretrained("m")
    letters = random.Random(0)
    strands = ["".join(letters.choices("acgt", k=20)) for _ in range(60)]
    (work / "texts.txt").write_text("\n".join(strands) + "\n")
    args = ["sft", *sft_args, "--model.pretrained", "./m", "--max_steps", "1", "--probes", "[]"]
    code, _, err = lit_ft(*args, "--data.layout", "truncate", "--data.validation_share", "0.5")
    assert code == 0 and "data.whole_words" not in err, err
    code, _, err = lit_ft(*args, "--data.layout", "truncate", "--data.whole_words", "true")
    assert "data.whole_words finds" in err
    assert code == 0 or one_line((code, "", err))
