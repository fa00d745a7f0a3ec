"""The masks: their statistics, what they depend on, whole words, and which models are refused."""

import pickle

import numpy as np
import pytest
import torch
from mlm_tiny import build, byte_tokenizer, rows, word_tokenizer
from torch.utils.data import DataLoader
from transformers import BartConfig, BertConfig, GPT2Config

from lit_ft.errors import UserError
from lit_ft.masked_lm.masking import IGNORED, MaskingCollator, check_masked_lm


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def random_rows(tokenizer, count=800, length=64):
    rng = np.random.default_rng(0)
    special = np.array(tokenizer.all_special_ids)
    ids = rng.choice(np.setdiff1d(np.arange(len(tokenizer)), special), size=(count, length))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids[::3, 20] = tokenizer.sep_token_id  # as packing puts between two texts
    return [{"input_ids": row.tolist()} for row in ids]


def test_share_and_80_10_10(tokenizer):
    given = random_rows(tokenizer)
    batch = MaskingCollator(tokenizer)(given)
    original = torch.tensor([row["input_ids"] for row in given])
    chosen = batch["labels"] != IGNORED
    special = torch.isin(original, torch.tensor(tokenizer.all_special_ids))

    assert not (chosen & special).any()
    assert chosen.sum() / (~special).sum() == pytest.approx(0.15, abs=0.002)
    assert (batch["labels"][chosen] == original[chosen]).all()
    assert (batch["input_ids"][~chosen] == original[~chosen]).all()

    seen = batch["input_ids"][chosen]
    masked = seen == tokenizer.mask_token_id
    unchanged = seen == original[chosen]
    assert masked.float().mean() == pytest.approx(0.80, abs=0.015)
    # A random token is now and then the one that was there.
    assert unchanged.float().mean() == pytest.approx(0.10 + 0.10 / (len(tokenizer) - 5), abs=0.012)
    replaced = seen[~masked & ~unchanged]
    assert not torch.isin(replaced, torch.tensor(tokenizer.all_special_ids)).any()
    assert len(replaced.unique()) > 0.9 * (len(tokenizer) - 5)


def test_short_rows_keep_the_share(tokenizer):
    """A row of 3 ordinary tokens has 0.45 masked on average: none is forced, or the share would double."""
    rng = np.random.default_rng(1)
    ordinary = MaskingCollator(tokenizer).ordinary_ids
    short = [{"input_ids": [2, *rng.choice(ordinary, 3), 3]} for _ in range(4000)]
    chosen = (MaskingCollator(tokenizer)(short)["labels"] != IGNORED).sum(1)
    assert chosen.float().mean() / 3 == pytest.approx(0.15, abs=0.01)
    assert set(chosen.tolist()) == {0, 1}
    seven = [{"input_ids": [2, *rng.choice(ordinary, 7), 3]} for _ in range(500)]
    assert (MaskingCollator(tokenizer)(seven)["labels"] != IGNORED).any(1).all()


def test_padding_and_keys(tokenizer):
    batch = MaskingCollator(tokenizer)(
        [{"input_ids": [2, 10, 11, 3]}, {"input_ids": np.arange(5, 16, dtype=np.int32)}]
    )
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert all(value.shape == (2, 16) and value.dtype == torch.int64 for value in batch.values())
    assert batch["attention_mask"].sum(1).tolist() == [4, 11]
    assert (batch["input_ids"][0, 4:] == tokenizer.pad_token_id).all()
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()


def test_masks_depend_on_seed_epoch_and_content_only(tokenizer):
    given = random_rows(tokenizer, 20)
    collator = MaskingCollator(tokenizer, seed=3)
    whole = collator(given)
    alone = collator([given[7]])
    assert torch.equal(alone["input_ids"][0], whole["input_ids"][7])  # whatever its neighbours
    np.random.seed(0), torch.manual_seed(0)
    assert torch.equal(MaskingCollator(tokenizer, seed=3)(given)["input_ids"], whole["input_ids"])
    assert not torch.equal(MaskingCollator(tokenizer, seed=4)(given)["labels"], whole["labels"])
    collator.set_epoch(1)
    assert not torch.equal(collator(given)["labels"], whole["labels"])


def test_fixed_masks_ignore_seed_and_epoch(tokenizer):
    given = random_rows(tokenizer, 20)
    one, other = MaskingCollator(tokenizer, seed=1), MaskingCollator(tokenizer, seed=2)
    other.set_epoch(5)
    assert torch.equal(one.fixed()(given)["input_ids"], other.fixed()(given)["input_ids"])
    assert not torch.equal(one.fixed()(given)["input_ids"], one(given)["input_ids"])


def test_workers_see_the_epoch_change(tokenizer):
    """Also persistent ones, which were copied in the first epoch."""
    data = rows(tokenizer, 8)
    collator = MaskingCollator(tokenizer)
    loader = DataLoader(data, batch_size=4, collate_fn=collator, num_workers=1, persistent_workers=True)
    for epoch in range(3):
        collator.set_epoch(epoch)
        expected = [collator([data[i] for i in range(k, k + 4)])["labels"] for k in (0, 4)]
        assert all(torch.equal(a["labels"], b) for a, b in zip(loader, expected, strict=True))


def test_collator_pickles(tokenizer):
    given = random_rows(tokenizer, 3)
    collator = MaskingCollator(tokenizer, whole_words=True)
    assert torch.equal(pickle.loads(pickle.dumps(collator))(given)["labels"], collator(given)["labels"])


@pytest.mark.parametrize("make", [word_tokenizer, byte_tokenizer])
def test_whole_words(make):
    tokenizer = make()
    sentence = "the unwatchable soundtracks, wonderfully dreadful: I disliked it!"
    row = {"input_ids": tokenizer(sentence)["input_ids"]}
    words = tokenizer(sentence).word_ids()
    assert len([w for w in words if w is not None]) > len(set(words)) + 5  # some words have several pieces
    collator = MaskingCollator(tokenizer, whole_words=True)
    share = []
    for epoch in range(400):
        collator.set_epoch(epoch)
        labels = collator([row])["labels"][0, : len(words)]
        chosen = {w for w, label in zip(words, labels, strict=True) if label != IGNORED}
        assert None not in chosen
        assert all(
            (label != IGNORED) == (w in chosen)
            for w, label in zip(words, labels, strict=True)
            if w is not None
        )
        share.append((labels != IGNORED).sum() / (len(words) - 2))
    assert np.mean(share) == pytest.approx(0.15, abs=0.015)


def test_whole_words_need_a_marked_vocabulary():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "movie": 3}, unk_token="[UNK]")
    )
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", mask_token="[MASK]")
    MaskingCollator(plain)
    with pytest.raises(UserError, match="whole_words=false"):
        MaskingCollator(plain, whole_words=True)


@pytest.mark.parametrize("probability", [0, 1, 15])
def test_probability_out_of_range(tokenizer, probability):
    with pytest.raises(UserError, match=f"found {probability};"):
        MaskingCollator(tokenizer, probability=probability)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "electra"])
def test_masked_lm_is_accepted(architecture):
    model, tokenizer = build(architecture)
    check_masked_lm(model.config, tokenizer)


def test_a_bare_encoder_is_accepted(tokenizer):
    check_masked_lm(BertConfig(architectures=["BertModel"]), tokenizer)  # its head starts untrained


@pytest.mark.parametrize(
    "config",
    [GPT2Config(architectures=["GPT2LMHeadModel"]), BartConfig(), BertConfig(is_decoder=True)],
    ids=["gpt2", "bart", "decoder"],
)
def test_other_models_are_refused(tokenizer, config):
    with pytest.raises(UserError, match=f"masked-LM head.*'{config.model_type}'.*in some/model") as error:
        check_masked_lm(config, tokenizer, "some/model")
    assert "\n" not in str(error.value)


def test_tokenizer_without_mask_is_refused():
    tokenizer = word_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="mask token, found none in some/model"):
        check_masked_lm(BertConfig(), tokenizer, "some/model")
