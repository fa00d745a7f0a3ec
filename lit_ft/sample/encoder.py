"""The sample's tiny BERT with untrained weights, built once into the cache folder."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lit_ft.errors import UserError
from lit_ft.runs import cache_dir
from lit_ft.sample.reviews import SAMPLE_VERSION, make_reviews

if TYPE_CHECKING:
    from transformers import BertTokenizer

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


def sample_encoder() -> Path:
    """The folder of the tiny BERT, built on the first call and reused by later ones.

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
    # transformers 5.23 silently ignores `vocab_file=` (models/bert/tokenization_bert.py): every word
    # would be [UNK]. `vocab=` is what it reads.
    limit = _ENCODER["max_position_embeddings"]
    return BertTokenizer(vocab=trained.get_vocab(), do_lower_case=True, model_max_length=limit)
