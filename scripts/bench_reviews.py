"""What the benchmarks train: texts of a csv or generated ones, an encoder or one with bert-base's shape."""

import argparse
import csv
from pathlib import Path

MEDIAN_WORDS, SIGMA = 68, 0.8  # of a log-normal: Yelp's lengths, median about 93 tokens, mean 128


def write_reviews(path: Path, num_rows: int) -> None:
    """A csv of so many different texts with labels 0 to 4: embedded reviews joined to Yelp's lengths."""
    import numpy as np

    from lit_ft.sample import make_reviews

    rng = np.random.default_rng(num_rows)
    sentences = [sentence for text in make_reviews("train")[0] for sentence in text.split(". ")]
    words_of = np.array([len(sentence.split()) for sentence in sentences])
    wanted = np.exp(rng.normal(np.log(MEDIAN_WORDS), SIGMA, num_rows)).clip(3, 1000)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        for number, words in enumerate(wanted):
            chosen = rng.integers(len(sentences), size=int(words / 4) + 1)
            enough = int(np.searchsorted(words_of[chosen].cumsum(), words)) + 1
            text = ". ".join(sentences[i] for i in chosen[:enough])
            writer.writerow((number % 5, f"{number} {text}"))


def read(path: str) -> tuple[list[str], list[int]]:
    """Texts and labels from 0 of a csv with the columns text and label."""
    csv.field_size_limit(1 << 30)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["label"]) for row in rows]
    return [row["text"] for row in rows], [label - min(labels) for label in labels]


def write_bert_base(folder: Path, tokenizer: str) -> None:
    """A model folder with bert-base's shape and random weights, and the tokenizer of another folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForPreTraining

    torch.manual_seed(0)
    BertForPreTraining(BertConfig()).save_pretrained(folder)  # BertConfig's defaults are bert-base's
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def set_defaults(options: argparse.Namespace, folder: str, num_rows: int = 5_000) -> None:
    """Where no texts or encoder are named, the embedded ones, on a GPU in bert-base's shape."""
    import torch

    if options.train_path is None:
        options.train_path = str(Path(folder) / "train.csv")
        write_reviews(Path(options.train_path), num_rows)
    if options.pretrained is None:
        from lit_ft.sample import sample_encoder

        options.pretrained = str(sample_encoder())
        if torch.cuda.is_available():
            write_bert_base(Path(folder) / "bert-base", options.pretrained)
            options.pretrained = str(Path(folder) / "bert-base")
    options.train_path = str(Path(options.train_path).resolve())
    options.pretrained = str(Path(options.pretrained).resolve())
