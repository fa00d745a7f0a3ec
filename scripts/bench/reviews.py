"""What the benchmarks train: texts of a csv or generated ones, an encoder or one with bert-base's shape."""

import argparse
import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

# Yelp's reviews in tokens: mean 128, median 93, 95 % below 364 (MiniLM's tokenizer). A log-normal number of
# words, in whole sentences, with these constants gives 129, 93 and 344.
MEDIAN_WORDS = 72
SIGMA = 0.86


def review_writer(random: Random) -> Callable[[str], str]:
    """A function from a review's opening words to a review of Yelp's lengths, of embedded sentences."""
    from lit_ft.sample.reviews import make_reviews

    sentences = sorted({s for text in make_reviews("train")[0] for s in re.findall(r"[^.!]+[.!]", text)})
    sizes = [sentence.count(" ") + 1 for sentence in sentences]

    def write(opening: str) -> str:
        wanted = MEDIAN_WORDS * math.exp(SIGMA * random.gauss(0, 1))
        parts, words = [opening], opening.count(" ") + 1
        while words < wanted:
            i = int(random.random() * len(sentences))
            parts.append(sentences[i].strip())
            words += sizes[i]
        return " ".join(parts)

    return write


def write_reviews(path: Path, num_rows: int) -> None:
    """A csv of so many different texts with labels 0 to 4."""
    write = review_writer(Random(num_rows))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        writer.writerows((number % 5, write(f"Visit {number}.")) for number in range(num_rows))


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


def set_defaults(options: argparse.Namespace, folder: str) -> None:
    """Use the embedded texts and encoder if none are named; on a GPU in bert-base's shape."""
    import torch

    if options.train_path is None:
        options.train_path = str(Path(folder) / "train.csv")
        write_reviews(Path(options.train_path), 1_000 if options.quick else 5_000)
    if options.pretrained is None:
        from lit_ft.sample.encoder import sample_encoder

        options.pretrained = str(sample_encoder())
        if torch.cuda.is_available():
            options.bert_base = True
    if getattr(options, "bert_base", False):
        write_bert_base(Path(folder) / "bert-base", options.pretrained)
        options.pretrained = str(Path(folder) / "bert-base")
    options.train_path = str(Path(options.train_path).resolve())
    options.pretrained = str(Path(options.pretrained).resolve())
