"""Leaf: the embedded reviews and the tiny BERT, so that everything runs with no network.

The reviews are drawn from the phrases of `sample_domains.py` and `sample_phrases.py`. Their stars hang on
things that word counts do not see: what is denied ("anything but bland"), which of two words comes first
("superb rather than bland"), which clause follows the "but", and above all the verdict in the title or at
the end, which outweighs the rest.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4
from zlib import crc32

from lit_ft.cache import cache_dir
from lit_ft.errors import UserError
from lit_ft.sample_writer import CLASSES as CLASSES
from lit_ft.sample_writer import ReviewWriter

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import BertTokenizer

SAMPLE_VERSION = 1  # part of every cache key: raise it whenever a text, a label or the encoder changes
TRAIN_SIZE = 6000
TEST_SIZE = 1000

_TEST_BUCKETS = 5  # a text belongs to test when crc32(text) % 5 == 0: the splits cannot share one

# Hidden size and depth: the smallest that read the verdicts within a few epochs. The wide initial weights
# (BERT's own: 0.02) and no dropout save about half of the steps at this size.
_ENCODER: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_VOCABULARY = 1000  # at most
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ENCODER_SEED = 0
_STALE_SECONDS = 3600.0  # an unfinished build older than this was killed


def make_reviews(split: Literal["train", "test"], seed: int = 0) -> tuple[list[str], list[int]]:
    """Writes the embedded reviews of one split.

    Args:
        split: `train` or `test`; no text is in both, whatever the seeds.
        seed: Another seed gives other reviews of the same kind.

    Returns:
        `TRAIN_SIZE` or `TEST_SIZE` different texts, and their labels in [0, CLASSES): stars minus 1.
    """
    writer = ReviewWriter(2 * seed + (split == "test"))
    reviews: dict[str, int] = {}
    while len(reviews) < (TEST_SIZE if split == "test" else TRAIN_SIZE):
        star = writer.star()
        text, label = writer.review(star), writer.rating(star)
        if (crc32(text.encode()) % _TEST_BUCKETS == 0) == (split == "test"):
            reviews.setdefault(text, label)
    return list(reviews), list(reviews.values())


def sample_dataset(split: Literal["train", "test"]) -> "Dataset":
    """The embedded reviews as a `datasets.Dataset`: `text`, and `label` from 0 to 4, named by stars."""
    from datasets import ClassLabel, Dataset, Features, Value

    texts, labels = make_reviews(split)
    stars = ["1 star", *(f"{n} stars" for n in range(2, CLASSES + 1))]
    features = Features({"text": Value("string"), "label": ClassLabel(names=stars)})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def sample_encoder() -> Path:
    """The folder of the tiny BERT, built on the first call; later calls only look for it.

    An ordinary model folder: untrained weights of `BertForPreTraining`, so that the classifier finds a
    pooler and the masked LM its head, and a WordPiece tokenizer trained on the training split.

    Raises:
        UserError: The cache folder cannot be written.
    """
    recipe = json.dumps([SAMPLE_VERSION, _ENCODER, _VOCABULARY, _ENCODER_SEED], sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    folder = cache_dir() / f"sample-{SAMPLE_VERSION}-{digest}"
    if folder.is_dir():
        return folder
    from safetensors import SafetensorError

    # Built under another name, then renamed: a kill or a second process leaves no half-written folder.
    unfinished = folder.with_name(f"{folder.name}.{uuid4().hex}.tmp")
    try:
        unfinished.mkdir(parents=True)
        _build_encoder(unfinished)
        unfinished.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():  # else another process was first, with the same bytes
            raise UserError(
                f"expected a cache folder that can be written, found {cache_dir()} "
                f"({error}); set the environment variable LIT_FT_CACHE=FOLDER to another one"
            ) from error
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    for leftover in folder.parent.glob(f"{folder.name}.*.tmp"):  # of builds that were killed
        if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
    return folder


def _build_encoder(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertForPreTraining

    tokenizer = _train_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **_ENCODER)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_ENCODER_SEED)  # torch.manual_seed would reach the GPUs' too
        model = BertForPreTraining(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train_tokenizer() -> "BertTokenizer":
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.trainers import WordPieceTrainer
    from transformers import BertTokenizer

    trained = Tokenizer(WordPiece(unk_token="[UNK]"))
    trained.normalizer = BertNormalizer(lowercase=True)
    trained.pre_tokenizer = BertPreTokenizer()
    # All printable characters, also those that the reviews lack: users' words are split, not lost. Their
    # "##" forms are given as special tokens because tokenizers 0.23 (models/bpe/trainer.rs) numbers those it
    # finds itself in the order of a hash map and breaks ties by number: another vocabulary in every process.
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    trainer = WordPieceTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[*_SPECIAL_TOKENS, *(f"##{character}" for character in characters)],
        initial_alphabet=characters,
        show_progress=False,
    )
    texts, _ = make_reviews("train")
    trained.train_from_iterator(texts, trainer)
    # transformers 5.23 ignores `vocab_file=` without a word (models/bert/tokenization_bert.py): every word
    # would be [UNK]. `vocab=` is what it reads.
    limit = _ENCODER["max_position_embeddings"]
    return BertTokenizer(vocab=trained.get_vocab(), do_lower_case=True, model_max_length=limit)
