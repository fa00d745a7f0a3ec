"""What a model is compared with: always the commonest class, and word counts. Fitted once, kept in the run.

N rows of a split, C classes.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer

from lit_ft import runs
from lit_ft.classifier import word_counts
from lit_ft.classifier.optim import limited
from lit_ft.classifier.word_counts import WordCounts
from lit_ft.console import say, warn
from lit_ft.data.facts import text_batches
from lit_ft.data.splits import Split
from lit_ft.errors import UserError, first_line, one_line, shorten, unusable
from lit_ft.report.analysis import class_counts
from lit_ft.report.intervals import scores_of

SAMPLE_SEED = 0  # of a generator of its own: baselines draw nothing from the run's random streams
SHORT_SECONDS, MOST_SECONDS, MOST_SHARE = 3.0, 60.0, 0.05  # of a short run; of any run; of a run's time
LOADING_SECONDS = 0.7  # of these go into the import of scikit-learn
# Operations a second that training at most reaches, per GPU or per thread of a CPU, in float32 and 16 bits:
# some 40 % of an H100's peak, and more than MiniLM's training reached on server cores (5e10, AVX512-BF16).
FASTEST = {"cuda": (5e13, 4e14), "mps": (1e13, 1e13), "cpu": (1e11, 2e11)}
WORK_PER_TOKEN = 4  # operations a weight: 2 forward, 4 backward, less where layers are skipped or frozen


@dataclass
class Baselines:
    """Both baselines of a run.

    Attributes:
        commonest: The commonest class among the training rows.
        share: Its share of them.
        words: Word counts; None if they could not be fitted.
    """

    commonest: int
    share: float
    words: WordCounts | None
    _last: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)  # positions, predictions

    def facts(self) -> dict[str, Any]:
        """For `report.json`: both, and room for their `evaluations`."""
        found: dict[str, Any] = {"commonest": {"class": self.commonest, "share": self.share}}
        if self.words is not None:
            found["words"] = asdict(self.words.training)
        return {**found, "evaluations": {}}

    def figures(self) -> dict[str, float]:
        """For `metrics.json`: what word counts took."""
        return {} if self.words is None else {"baseline/words/seconds": self.words.training.seconds}

    def measure(
        self,
        split: Split,
        positions: np.ndarray,
        labels: np.ndarray,
        said: np.ndarray,
        num_classes: int,
        ordered: bool,
    ) -> dict[str, dict[str, Any]]:
        """Measure them on the rows that the model was measured on.

        Args:
            split: The rows' split.
            positions: The rows, (N,) positions in the split's texts.
            labels: (N,) int64.
            said: The model's predictions, (N,) int64.
            num_classes: C.
            ordered: Whether the classes have an order.

        Returns:
            `words` and `commonest`, each with accuracy, macro F1, MAE and kappa (with an order), the
            `class_counts`, and the number of rows `only_model_right` and `only_baseline_right`.
        """
        model_right = said == labels
        predicted = {"commonest": np.full(len(labels), self.commonest)}
        if self.words is not None:
            predicted["words"] = self._predict(self.words, split, positions)
        found: dict[str, dict[str, Any]] = {}
        for name, classes in predicted.items():
            right = classes == labels
            found[name] = scores(labels, classes, num_classes, ordered) | {
                "only_model_right": int((model_right & ~right).sum()),
                "only_baseline_right": int((right & ~model_right).sum()),
            }
        return found

    def _predict(self, words: WordCounts, split: Split, positions: np.ndarray) -> np.ndarray:
        if self._last is not None and np.array_equal(self._last[0], positions):
            return self._last[1]  # each validation measures the same rows
        texts = chain.from_iterable(text_batches(split.texts.data.column("text"), positions))
        self._last = positions, words.predict(texts)
        return self._last[1]

    def describe(self, names: tuple[str, ...], validation: Split | None) -> str:
        """One line: what they reach on the whole validation split (None: on none), and what that took."""
        commonest = f"always '{shorten(one_line(names[self.commonest]))}'"
        parts = {"word counts": self.words, commonest: self.commonest}
        shown, measured = [name for name, model in parts.items() if model is not None], ""
        if validation is not None and len(validation.rows):
            assert validation.labels is not None
            predicted = [np.full(len(validation.labels), self.commonest)]
            if self.words is not None:
                predicted.insert(0, self._predict(self.words, validation, validation.rows.positions))
            right = [float((classes == validation.labels).mean()) for classes in predicted]
            shown = [f"{name} {share:.3f}" for name, share in zip(shown, right, strict=True)]
            measured = f" accuracy on {len(validation.labels):,} validation texts"
        if self.words is None:
            return f"baselines: {', '.join(shown)}{measured}"
        t = self.words.training
        how = f"{t.method} on {t.rows:,} texts in {t.seconds:.1f} s"
        end = "" if t.converged else f", not converged after {t.iterations} iterations"
        return f"baselines: {', '.join(shown)}{measured} ({how}{end})"


def scores(labels: np.ndarray, predicted: np.ndarray, num_classes: int, ordered: bool) -> dict[str, Any]:
    """The figures of `ClassifierMetrics` from classes alone, and `class_counts`; kappa is quadratic.

    Args:
        labels: (N,) int64.
        predicted: (N,) int64.
        num_classes: C.
        ordered: Whether the classes have an order.
    """
    found: dict[str, Any] = scores_of(labels, predicted, num_classes, ordered)
    if ordered and (labels == labels[0]).all() and (predicted == labels[0]).all():
        found["kappa"] = float("nan")  # of one class alone there is none
    return found | {"class_counts": class_counts(labels, predicted, num_classes)}


def tags(evaluation: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """An evaluation of `Baselines.measure` for `metrics.json`, such as `baseline/words/test/accuracy`."""
    return {
        f"baseline/{name}/{prefix}/{score}": found[score]
        for name, found in evaluation.items()
        for score in ("accuracy", "macro_f1", "mae", "kappa")
        if score in found
    }


@contextlib.contextmanager
def spared(what: str) -> Iterator[None]:
    """A baseline that fails costs one line, and never the run."""
    try:
        yield
    except Exception as error:
        warn(f"{what}: {first_line(error)}; the run goes on without (--baselines=false leaves them out)")


# ---- of a run ----------------------------------------------------------------------------------


def read_back(run: Path, num_classes: int) -> Baselines | None:
    """The baselines that a run keeps; None if it has none.

    Raises:
        UserError: They are damaged, or of other classes.
    """
    folder = run / runs.BASELINE
    if (found := word_counts.load(folder)) is None:
        return None
    words, values = found
    with unusable(str(folder), "delete that folder"):
        commonest, share = int(values["commonest"]["class"]), float(values["commonest"]["share"])
        classes = [commonest, *([] if words is None else words.classes)]
        if not 0 <= min(classes) <= max(classes) < num_classes:
            raise ValueError(f"expected classes below {num_classes}, found {min(classes)} to {max(classes)}")
        return Baselines(commonest, share, words)


def of_run(run: Path, num_classes: int) -> Baselines | None:
    """The baselines that a run keeps; None, after a warning if they are damaged."""
    with spared("baselines"):
        return read_back(run, num_classes)
    return None


def prepare(run: Path, trainer: Any, model: Any, datamodule: Any) -> Baselines | None:
    """Before training: the baselines of this run, fitted and kept in it if it has none. Says what they reach.

    Args:
        run: The run folder.
        trainer: The trainer, before it starts.
        model: The `BertClassifier`, built.
        datamodule: The `YelpDataModule`, set up for `fit`.

    Returns:
        None in a trial run, or if they failed, after one line.
    """
    if trainer.fast_dev_run:
        return None
    names = datamodule.labels.names
    with spared("baselines"):
        try:
            found = read_back(run, len(names))
        except UserError as error:
            found = None
            warn(f"{first_line(error)}: the baselines are fitted again")
        if found is None:
            found = _fit(
                datamodule.splits["train"],
                datamodule.class_counts(),
                time_for(trainer, model.net, datamodule),
            )
            more = {"commonest": found.facts()["commonest"]}
            with spared(f"{run / runs.BASELINE} was not written"):
                word_counts.keep(found.words, more, run / runs.BASELINE)
        whole = trainer.limit_val_batches == 1.0 and isinstance(trainer.limit_val_batches, float)
        say(found.describe(names, datamodule.splits["validation"] if whole else None))
        return found
    return None


def time_for(trainer: Any, net: torch.nn.Module, datamodule: Any) -> float:
    """The seconds that word counts may take: 5 % of what the run takes at least, within bounds.

    From sizes alone, not by the clock: the same run on the same machine gets the same baselines.
    """
    rows, batches = datamodule.splits["train"].rows, datamodule.num_train_batches(trainer.world_size)
    of_epoch = max(limited(batches, trainer.limit_train_batches), 1)
    epochs = [float("inf") if trainer.max_epochs in (None, -1) else trainer.max_epochs]
    if trainer.max_steps not in (None, -1):
        epochs.append(trainer.max_steps * trainer.accumulate_grad_batches / of_epoch)
    if any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks):
        epochs.append(1)
    tokens = float(rows.lengths.sum()) * of_epoch / max(batches, 1) * min(epochs)
    table = net.get_input_embeddings()  # type: ignore[operator]  # looked up, not multiplied
    weights = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in table.parameters())
    device = trainer.strategy.root_device.type
    rate = FASTEST.get(device, FASTEST["cuda"])["16" in str(trainer.precision)]
    workers = trainer.world_size * (torch.get_num_threads() if device == "cpu" else 1)
    seconds = WORK_PER_TOKEN * weights * tokens / (rate * workers)
    limits = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]
    seconds = min([seconds, *(limit for limit in limits if limit is not None)])
    return min(MOST_SECONDS, max(SHORT_SECONDS, MOST_SHARE * seconds))


def _fit(train: Split, counts: list[int], seconds: float) -> Baselines:
    """Fit on a random sample of the training rows that can be counted in time."""
    begun, commonest = time.monotonic(), int(np.argmax(counts))
    words: WordCounts | None = None
    with spared("no baseline of word counts"):
        left = seconds - LOADING_SECONDS
        texts, labels, analyzer = _sample(train, left)
        words = word_counts.fit(texts, labels, analyzer, left)
        took = round(time.monotonic() - begun, 2)
        words = replace(words, training=replace(words.training, seconds=took))
    return Baselines(commonest, counts[commonest] / sum(counts), words)


def _sample(train: Split, seconds: float) -> tuple[list[str], np.ndarray, word_counts.Analyzer]:
    """Texts and classes, (N,), in the order of the rows, and what to count."""
    assert train.labels is not None
    column: pa.ChunkedArray = train.texts.data.column("text")
    positions, generator = train.rows.positions, np.random.default_rng(SAMPLE_SEED)
    drawn = generator.permutation(len(positions))[: word_counts.MOST_ROWS]
    analyzer = word_counts.analyzer_of(_texts(column, positions[np.sort(drawn[:200])]))
    sizes = pc.binary_length(column).to_numpy()[positions[drawn]]  # from the offsets: reads no text
    rows = np.sort(drawn[: word_counts.rows_to_count(sizes, analyzer, seconds)])
    return _texts(column, positions[rows]), train.labels[rows], analyzer


def _texts(column: pa.ChunkedArray, positions: np.ndarray) -> list[str]:
    most = word_counts.MOST_LETTERS
    return [text[:most] for batch in text_batches(column, positions) for text in batch]
