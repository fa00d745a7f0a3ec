"""The files of a word-count model in a run's folder: `words.json`, and `words.safetensors` beside it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lit_ft import runs
from lit_ft.classifier.word_counts import ANALYZERS, Training, WordCounts
from lit_ft.errors import unusable

JSON, ARRAYS = "words.json", "words.safetensors"


def keep(model: WordCounts | None, more: dict[str, Any], folder: Path) -> None:
    """Write `words.safetensors`, then `words.json`, whose presence says that both are whole.

    Args:
        model: None if it could not be fitted, which is kept, too.
        more: Further values for the JSON.
        folder: Made if need be.
    """
    from safetensors.numpy import save

    folder.mkdir(exist_ok=True)
    if model is not None:
        matrix = model.coefficients
        parts = {"": matrix} if isinstance(matrix, np.ndarray) else {
            "_values": matrix.data, "_columns": matrix.indices.astype(np.int32),
            "_ends": matrix.indptr.astype(np.int64),
        }  # fmt: skip
        arrays = {"idf": model.idf, "intercepts": model.intercepts, "classes": model.classes}
        arrays |= {f"coefficients{end}": np.ascontiguousarray(part) for end, part in parts.items()}
        with runs.written_whole(folder / ARRAYS) as file:
            file.write(save(arrays))
        more = {**more, "words": asdict(model.training), "vocabulary": model.vocabulary}
    runs.write(folder / JSON, json.dumps(more, ensure_ascii=False) + "\n")


def load(folder: Path) -> tuple[WordCounts | None, dict[str, Any]] | None:
    """What `keep` wrote: the model, and the further values; None if there is nothing.

    Raises:
        UserError: The files are damaged.
    """
    if not (folder / JSON).is_file():
        return None
    with unusable(str(folder), "delete that folder"):
        values = json.loads((folder / JSON).read_text(encoding="utf-8"))
        training, vocabulary = values.pop("words", None), values.pop("vocabulary", None)
        if training is None:
            return None, values
        return _checked(Training(**training), vocabulary, (folder / ARRAYS).read_bytes()), values


def _checked(training: Training, vocabulary: list[str], content: bytes) -> WordCounts:
    """The model, if its arrays go together: scipy would read beyond the end of others."""
    from safetensors.numpy import load as read
    from scipy.sparse import csr_matrix

    arrays = read(content)
    idf, intercepts, classes = arrays["idf"], arrays["intercepts"], arrays["classes"]
    shape = len(classes), len(vocabulary)
    if "coefficients" in arrays:
        matrix: Any = arrays["coefficients"]
    else:
        parts = (arrays[f"coefficients_{part}"] for part in ("values", "columns", "ends"))
        matrix = csr_matrix(tuple(parts), shape=shape)
        matrix.check_format(full_check=True)
    found = matrix.shape, idf.shape, intercepts.shape, classes.ndim, classes.dtype.kind
    if found != (shape, (shape[1],), (shape[0],), 1, "i") or classes.min() < 0:
        raise ValueError(f"expected arrays of {shape[0]} classes and {shape[1]} features, found {found}")
    if training.analyzer not in ANALYZERS or not all(isinstance(term, str) for term in vocabulary):
        raise ValueError(f"expected a vocabulary of words or characters, found {training.analyzer!r:.40}")
    return WordCounts(training, vocabulary, idf, matrix, intercepts, classes)
