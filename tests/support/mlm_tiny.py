"""Tiny tokenizers, models and texts for the masked-LM tests: built in memory, with no network."""

from random import Random
from string import ascii_lowercase

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
)

from lit_ft.masked_lm.arguments import training_arguments
from lit_ft.masked_lm.masking import MaskingCollator
from lit_ft.masked_lm.trainer import MaskedLMTrainer

NOUNS = [
    "movie",
    "film",
    "plot",
    "acting",
    "ending",
    "soundtrack",
    "dialogue",
    "director",
    "scenery",
    "story",
]
ADJECTIVES = [
    "great",
    "terrible",
    "boring",
    "wonderful",
    "unforgettable",
    "disappointing",
    "fine",
    "dreadful",
]
ARCHITECTURES = ["bert", "distilbert", "roberta", "electra"]


def texts(count: int, seed: int = 0) -> list[str]:
    """Reviews of one to six sentences."""
    rng = Random(seed)

    def sentence() -> str:
        noun, adjective, verb = rng.choice(NOUNS), rng.choice(ADJECTIVES), rng.choice(["liked", "hated"])
        return f"the {noun} was {adjective}, and I {verb} it!"

    return [" ".join(sentence() for _ in range(rng.randint(1, 6))) for _ in range(count)]


# Vocabularies are written down, not trained: tokenizers' trainers break ties differently in every process.
WORDS = ["the", "was", "and", "i", "liked", "hated", "it", "great", "boring", "fine", "terrible", *NOUNS[:8]]


def word_tokenizer() -> BertTokenizerFast:
    """WordPiece, as BERT's, DistilBERT's, ELECTRA's. An object, as `vocab_file=` is silently ignored."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), "##able", "##ful", *",.!:"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *WORDS, *pieces]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=64)


def byte_tokenizer() -> RobertaTokenizerFast:
    """Byte-level BPE, as RoBERTa's."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = dict.fromkeys(
        (f"\u0120{word}"[:i], f"\u0120{word}"[i]) for word in WORDS for i in range(1, len(word) + 1)
    )
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    backend = Tokenizer(models.BPE(vocabulary, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    backend.decoder = decoders.ByteLevel()
    return RobertaTokenizerFast(tokenizer_object=backend, model_max_length=64)


def build(architecture: str, dropout: float = 0.1) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model from config, with the same weights at every call, and its tokenizer."""
    tokenizer = byte_tokenizer() if architecture == "roberta" else word_tokenizer()
    torch.manual_seed(0)
    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if architecture == "bert":
        return BertForMaskedLM(
            BertConfig(**vocabulary, **shape, **drops, max_position_embeddings=64)
        ), tokenizer
    if architecture == "roberta":
        config = RobertaConfig(**vocabulary, **shape, **drops, max_position_embeddings=66)
        return RobertaForMaskedLM(config), tokenizer
    if architecture == "electra":
        config = ElectraConfig(**vocabulary, **shape, **drops, embedding_size=16, max_position_embeddings=64)
        return ElectraForMaskedLM(config), tokenizer
    assert architecture == "distilbert"
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
    config = DistilBertConfig(**vocabulary, **sizes, dropout=dropout, attention_dropout=dropout)
    return DistilBertForMaskedLM(config), tokenizer


def rows(tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 1) -> Dataset:
    """Token ids of reviews, cut at 48."""
    encoded = tokenizer(texts(count, seed), truncation=True, max_length=48)["input_ids"]
    return Dataset.from_dict({"input_ids": encoded})


def make_trainer(output_dir, architecture="bert", dropout=0.1, count=24, callbacks=(), settings=None, **more):
    """A trainer on the CPU that prints nothing."""
    settings = dict(settings or {})
    if settings.pop("no_dropout", False):
        dropout = 0.0
    model, tokenizer = build(architecture, dropout)
    quiet = {
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 2,
        "learning_rate": 1e-3,
        "save_strategy": "no",
    }
    arguments = training_arguments(str(output_dir), {**quiet, **settings})
    collator = MaskingCollator(tokenizer, seed=arguments.seed)
    train, validation = rows(tokenizer, count), rows(tokenizer, 13, seed=2)
    return MaskedLMTrainer(model, arguments, tokenizer, collator, train, validation, callbacks, **more)
