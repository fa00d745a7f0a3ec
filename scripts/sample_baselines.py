"""How much of the embedded reviews can be told without reading: three baselines beside the trained model.

python scripts/sample_baselines.py [--model FOLDER]
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lit_ft.runs import MODEL, versions
from lit_ft.sample.reviews import make_reviews


def majority_accuracy() -> float:
    """Test accuracy of always answering the commonest training label."""
    _, train_labels = make_reviews("train")
    _, labels = make_reviews("test")
    commonest = Counter(train_labels).most_common(1)[0][0]
    return labels.count(commonest) / len(labels)


def word_count_accuracy() -> float:
    """Test accuracy of logistic regression on single words, scikit-learn's defaults but for the steps."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    classifier = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    classifier.fit(*make_reviews("train"))
    return float(classifier.score(*make_reviews("test")))


def pair_count_accuracy() -> float:
    """Test accuracy of the baseline that `fit` measures beside its model, with a minute to fit it."""
    import numpy as np

    from lit_ft.classifier import word_counts

    texts, labels = make_reviews("train")
    baseline = word_counts.fit(texts, np.array(labels), "words", seconds=60.0)
    texts, labels = make_reviews("test")
    return float((baseline.predict(texts) == np.array(labels)).mean())


def model_accuracy(folder: Path) -> float:
    """Test accuracy of an exported model folder, on reviews cut as in training."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts, labels = make_reviews("test")
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # similar lengths: little padding
    correct = 0
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        batch = tokenizer([texts[row] for row in rows], truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            predicted = model(**batch).logits.argmax(-1)  # (B, C) -> (B,)
        correct += int((predicted == torch.tensor([labels[row] for row in rows])).sum())
    return correct / len(labels)


def newest_model() -> Path | None:
    """The `model/` of the newest run named `sample` that has one."""
    return next((run / MODEL for run in versions("sample") if (run / MODEL / "config.json").is_file()), None)


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="exported model folder (default: the newest run's)")
    folder = parser.parse_args().model or newest_model()
    if folder and not (folder / "config.json").is_file():
        parser.error(f"expected a model folder with config.json, found {folder}; set --model=runs/.../model")

    rows = [("majority class", f"{majority_accuracy():.3f}")]
    rows.append(("word counts, logistic regression", f"{word_count_accuracy():.3f}"))
    rows.append(("words and pairs, as fit counts them", f"{pair_count_accuracy():.3f}"))
    if folder:
        rows.append((str(folder), f"{model_accuracy(folder):.3f}"))
    else:
        rows.append(("no model yet", "python -m lit_ft fit --config sample.yaml"))
    width = max(len(name) for name, _ in rows)
    print(f"{'embedded reviews':{width}}  test accuracy")
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
