"""What a model is compared with: a constant answer, and word counts. Fitted once, kept in the run.

N rows of a split. What an answer is depends on the kind of label: see `Rivals`.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
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
from lit_ft.classifier import word_counts, word_files
from lit_ft.classifier.optim import limited
from lit_ft.classifier.word_counts import WordCounts
from lit_ft.console import say, warn
from lit_ft.data.facts import text_batches
from lit_ft.data.splits import Split
from lit_ft.data.text_columns import pairs_of
from lit_ft.errors import UserError, first_line, unusable
from lit_ft.report.scores import OF_FIT

SAMPLE_SEED = 0  # of a generator of its own: baselines draw nothing from the run's random streams
SHORT_SECONDS, MOST_SECONDS, MOST_SHARE = 3.0, 60.0, 0.05  # of a short run; of any run; of a run's time
LOADING_SECONDS = 0.7  # of these go into the import of scikit-learn
# Operations a second that training at most reaches, per GPU or per thread of a CPU, in float32 and 16 bits:
# some 40 % of an H100's peak, and more than MiniLM's training reached on server cores (5e10, AVX512-BF16).
FASTEST = {"cuda": (5e13, 4e14), "mps": (1e13, 1e13), "cpu": (1e11, 2e11)}
COMPARED = {score.name: score.words for score in OF_FIT}  # figures of baselines that `metrics.json` holds
WORK_PER_TOKEN = 4  # operations a weight: 2 forward, 4 backward, less where layers are skipped or frozen


@dataclass(frozen=True)
class Rivals:
    """What the baselines of one kind of label are: a row of `kinds.KINDS` has one.

    Attributes:
        constants: The label object and the labels of training, (N, ...) -> name -> what is always answered,
            as plain values, such as `{"commonest": {"class": 3, "share": 0.4}}`.
        always: The label object, such a value and a number of rows -> answers, (N, ...).
        named: The label object and such a value -> its name in a line, such as `always '5'`.
        fit: Texts, labels, what to count and seconds -> word counts.
        predict: Word counts and texts -> answers, (N, ...).
        scores: The label object, labels, a baseline's answers and the model's, (N, ...) each -> figures.
        headline: The figure that is told in the line.
        told: The label object and that figure -> as text.
    """

    constants: Callable[[Any, np.ndarray], dict[str, dict[str, Any]]]
    always: Callable[[Any, dict[str, Any], int], np.ndarray]
    named: Callable[[Any, dict[str, Any]], str]
    fit: Callable[[list[str], np.ndarray, word_counts.Analyzer, float], WordCounts]
    predict: Callable[[WordCounts, Iterable[str]], np.ndarray]
    scores: Callable[[Any, np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]
    headline: str
    told: Callable[[Any, float], str] = lambda labels, value: f"{value:.3f}"


@dataclass
class Baselines:
    """The baselines of a run.

    Attributes:
        rivals: What they are for this kind of label.
        labels: The label object.
        constants: Name -> what is always answered, from the training rows, as plain values.
        words: Word counts; None if they could not be fitted.
    """

    rivals: Rivals
    labels: Any
    constants: dict[str, dict[str, Any]]
    words: WordCounts | None
    _last: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)  # positions, answers

    def facts(self) -> dict[str, Any]:
        """For `report.json`: all, and room for their `evaluations`."""
        found: dict[str, Any] = dict(self.constants)
        if self.words is not None:
            found["words"] = asdict(self.words.training)
        return {**found, "evaluations": {}}

    def figures(self) -> dict[str, float]:
        """For `metrics.json`: what word counts took."""
        return {} if self.words is None else {"baseline/words/seconds": self.words.training.seconds}

    def measure(
        self, split: Split, positions: np.ndarray, labels: np.ndarray, said: np.ndarray
    ) -> dict[str, dict[str, Any]]:
        """Measure them on the rows that the model was measured on.

        Args:
            split: The rows' split.
            positions: The rows, (N,) positions in the split's texts.
            labels: Their labels, (N, ...), as the split has them.
            said: The model's answers, (N, ...).

        Returns:
            Name of the baseline -> `Rivals.scores` of it.
        """
        predicted = {
            name: self.rivals.always(self.labels, value, len(labels))
            for name, value in self.constants.items()
        }
        if self.words is not None:
            predicted["words"] = self._predict(self.words, split, positions)
        return {
            name: self.rivals.scores(self.labels, labels, answers, said)
            for name, answers in predicted.items()
        }

    def _predict(self, words: WordCounts, split: Split, positions: np.ndarray) -> np.ndarray:
        if self._last is not None and np.array_equal(self._last[0], positions):
            return self._last[1]  # each validation measures the same rows
        column, pairs = split.texts.data.column("text"), pairs_of(split.texts)
        texts = chain.from_iterable(text_batches(column, positions, pairs))
        self._last = positions, self.rivals.predict(words, texts)
        return self._last[1]

    def describe(self, validation: Split | None) -> str:
        """One line: what they reach on the whole validation split (None: on none), and what that took."""
        shown = ["word counts"] if self.words is not None else []
        shown += [self.rivals.named(self.labels, value) for value in self.constants.values()]
        measured = ""
        if validation is not None and len(validation.rows):
            assert validation.labels is not None
            given = validation.labels
            found = self.measure(validation, validation.rows.positions, given, given)
            names = (["words"] if self.words is not None else []) + list(self.constants)
            score = self.rivals.headline
            values = [self.rivals.told(self.labels, found[name][score]) for name in names]
            shown = [f"{text} {value}" for text, value in zip(shown, values, strict=True)]
            measured = f" {COMPARED[score]} on {len(given):,} validation texts"
        if self.words is None:
            return f"baselines: {', '.join(shown)}{measured}"
        t = self.words.training
        how = f"{t.method} on {t.rows:,} texts in {t.seconds:.1f} s"
        end = "" if t.converged else f", not converged after {t.iterations} iterations"
        return f"baselines: {', '.join(shown)}{measured} ({how}{end})"


def tags(evaluation: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """An evaluation of `Baselines.measure` for `metrics.json`, such as `baseline/words/test/accuracy`."""
    return {
        f"baseline/{name}/{prefix}/{score}": value
        for name, found in evaluation.items()
        for score, value in found.items()
        if score in COMPARED and isinstance(value, float)
    }


@contextlib.contextmanager
def spared(what: str) -> Iterator[None]:
    """A baseline that fails costs one line, and never the run."""
    try:
        yield
    except Exception as error:
        warn(f"{what}: {first_line(error)}; the run goes on without (--baselines=false leaves them out)")


# ---- of a run ----------------------------------------------------------------------------------


def read_back(run: Path, labels: Any, rivals: Rivals) -> Baselines | None:
    """The baselines that a run keeps; None if it has none.

    Args:
        run: The run folder.
        labels: The run's label object.
        rivals: What its baselines are.

    Raises:
        UserError: They are damaged, or of other classes.
    """
    folder = run / runs.BASELINE
    if (found := word_files.load(folder)) is None:
        return None
    words, values = found
    with unusable(str(folder), "delete that folder"):
        constants = {name: value for name, value in values.items() if isinstance(value, dict)}
        for value in constants.values():
            rivals.always(labels, value, 1)  # raises if it is of other labels
        if words is not None and not 0 <= min(words.classes) <= max(words.classes) < labels.num_outputs:
            places = f"{min(words.classes)} to {max(words.classes)}"
            raise ValueError(f"expected classes below {labels.num_outputs}, found {places}")
        return Baselines(rivals, labels, constants, words)


def of_run(run: Path, labels: Any, rivals: Rivals) -> Baselines | None:
    """The baselines that a run keeps; None, after a warning if they are damaged."""
    with spared("baselines"):
        return read_back(run, labels, rivals)
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
    labels, rivals = datamodule.labels, model.kind.rivals
    with spared("baselines"):
        try:
            found = read_back(run, labels, rivals)
        except UserError as error:
            found = None
            warn(f"{first_line(error)}: the baselines are fitted again")
        if found is None:
            seconds = time_for(trainer, model.net, datamodule)
            found = _fit(datamodule.splits["train"], labels, rivals, seconds)
            with spared(f"{run / runs.BASELINE} was not written"):
                word_files.keep(found.words, found.constants, run / runs.BASELINE)
        whole = trainer.limit_val_batches == 1.0 and isinstance(trainer.limit_val_batches, float)
        say(found.describe(datamodule.splits["validation"] if whole else None))
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


def _fit(train: Split, labels: Any, rivals: Rivals, seconds: float) -> Baselines:
    """Fit on a random sample of the training rows that can be counted in time."""
    assert train.labels is not None
    begun, constants = time.monotonic(), rivals.constants(labels, train.labels)
    words: WordCounts | None = None
    with spared("no baseline of word counts"):
        left = seconds - LOADING_SECONDS
        texts, given, analyzer = _sample(train, left)
        words = rivals.fit(texts, given, analyzer, left)
        took = round(time.monotonic() - begun, 2)
        words = replace(words, training=replace(words.training, seconds=took))
    return Baselines(rivals, labels, constants, words)


def _sample(train: Split, seconds: float) -> tuple[list[str], np.ndarray, word_counts.Analyzer]:
    """Texts and labels, (N, ...), in the order of the rows, and what to count."""
    assert train.labels is not None
    column, pairs = train.texts.data.column("text"), pairs_of(train.texts)
    positions, generator = train.rows.positions, np.random.default_rng(SAMPLE_SEED)
    drawn = generator.permutation(len(positions))[: word_counts.MOST_ROWS]
    analyzer = word_counts.analyzer_of(_texts(column, pairs, positions[np.sort(drawn[:200])]))
    # from the offsets: reads no text
    sizes = sum(pc.binary_length(c).to_numpy()[positions[drawn]] for c in (column, pairs) if c is not None)
    rows = np.sort(drawn[: word_counts.rows_to_count(sizes, analyzer, seconds)])
    return _texts(column, pairs, positions[rows]), train.labels[rows], analyzer


def _texts(column: pa.ChunkedArray, pairs: pa.ChunkedArray | None, positions: np.ndarray) -> list[str]:
    most = word_counts.MOST_LETTERS
    return [text[:most] for batch in text_batches(column, positions, pairs) for text in batch]
