"""A classifier that knows word counts alone: what it reaches, an encoder should beat.

TF-IDF of words and pairs of words, in scripts without spaces of 2 to 4 characters, under a linear model:
logistic regression, or the nearest centroid where that would take too long; for numbers ridge regression.
N texts, F features, C classes, one for numbers.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lit_ft.data.unspaced import UNSPACED

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Analyzer = Literal["words", "characters"]
Method = Literal["logistic regression", "nearest centroid", "ridge regression"]

MOST_ROWS = 20_000
MOST_FEATURES = 50_000
MOST_LETTERS = 20_000  # of a text: some 3,500 words, far more than an encoder reads
LEAST_ROWS = 200  # a plan for hardly any time still learns from these
# With fewer features, the most frequent ones, logistic regression loses to centroids: with 1,000 classes of a
# few words each, 2,000 features reach 0.01, centroids of 50,000 0.95.
LEAST_FEATURES, LEAST_A_CLASS = 2_000, 50
# C x F. lbfgs keeps some 22 arrays of them in float64: 440 MB; the file takes 10 MB.
MOST_WEIGHTS = 2_500_000
STRENGTH = 10.0  # C of scikit-learn. On 5,000 Yelp reviews 1 gives 0.611, 3 0.634, 10 0.638, 30 0.637
# Of standardised numbers. Mean absolute error of stars on Yelp from 500 and from 5,000 texts: 0.1 gives 0.83
# and 0.71, 0.3 0.85 and 0.69, 1 0.91 and 0.68; on the embedded reviews 0.3 is the best as well.
RIDGE = 0.3
ITERATIONS = (20, 40, 200)  # too few to be fair; within 0.002 of the end on Yelp; more than it needs
# Measured on cloud cores in seconds (scikit-learn 1.9, float32, one thread): a byte of text read and counted,
# a product of a non-zero count with a class and back, and lbfgs's own work on a weight. The plan multiplies
# them by SAFETY, for slower machines. Threads help none of them: two take longer than one.
SECONDS_A_BYTE = {"words": 0.6e-6, "characters": 1.2e-6}
SECONDS_A_PRODUCT, SECONDS_A_WEIGHT = 1.6e-9, 130e-9
SAFETY = 1.6
COUNTING_SHARE = 0.6  # of the time, at most; the rest is the solver's

TOKEN = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's
UNSPACED_SHARE = 0.2  # of the letters; one such character says as much as half a word
TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Training:
    """How the model came about.

    Attributes:
        method: The linear model.
        analyzer: What was counted.
        rows: Texts that it was fitted on, a random sample of at most `MOST_ROWS`.
        features: F.
        iterations: Of the solver; 0 for centroids.
        converged: Whether they were enough.
        seconds: The time it took, with loading scikit-learn.
    """

    method: Method
    analyzer: Analyzer
    rows: int
    features: int
    iterations: int
    converged: bool
    seconds: float


@dataclass(frozen=True)
class WordCounts:
    """A fitted model.

    Attributes:
        training: How it came about.
        vocabulary: The features, (F,).
        idf: Their weights, (F,) float32.
        coefficients: (C, F) float32, dense; sparse for centroids.
        intercepts: (C,) float32.
        classes: The classes that the sample had, (C,) int64.
    """

    training: Training
    vocabulary: list[str]
    idf: np.ndarray
    coefficients: "np.ndarray | csr_matrix"
    intercepts: np.ndarray
    classes: np.ndarray

    def scores(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Scores (B, C) of at most `TEXTS_AT_ONCE` texts at a time; their softmax are the probabilities."""
        place = {term: i for i, term in enumerate(self.vocabulary)}
        analyze = ANALYZERS[self.training.analyzer]
        for some in _batches(texts):
            found = weigh(count(some, place, analyze), self.idf) @ self.coefficients.T
            dense = found if isinstance(found, np.ndarray) else found.toarray()
            yield np.asarray(dense, dtype=np.float32) + self.intercepts

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """The class of each text, (N,) int64."""
        best = [scores.argmax(-1) for scores in self.scores(texts)]
        return self.classes[np.concatenate(best)] if best else np.zeros(0, np.int64)

    def numbers(self, texts: Iterable[str]) -> np.ndarray:
        """The number of each text, (N,) float64, of a model of numbers."""
        return np.concatenate([np.zeros(0), *(scores[:, 0] for scores in self.scores(texts))])


# ---- counting ----------------------------------------------------------------------------------


def words_and_pairs(text: str) -> Iterator[str]:
    """scikit-learn's `analyzer="word", ngram_range=(1, 2)`."""
    words = TOKEN.findall(text[:MOST_LETTERS].lower())
    return chain(words, map(" ".join, zip(words, words[1:], strict=False)))


def characters(text: str) -> Iterator[str]:
    """scikit-learn's `analyzer="char_wb", ngram_range=(2, 4)`: within words, with a space on either side."""
    for word in text[:MOST_LETTERS].lower().split():
        padded = f" {word} "
        for size in (2, 3, 4):
            for start in range(max(len(padded) - size, 0) + 1):
                yield padded[start : start + size]
            if size >= len(padded):  # a short word counts once
                break


ANALYZERS: dict[Analyzer, Callable[[str], Iterator[str]]] = {
    "words": words_and_pairs,
    "characters": characters,
}


def analyzer_of(texts: Sequence[str]) -> Analyzer:
    """`characters` if the scripts of these texts have no spaces between words."""
    some = "".join(text[:1000] for text in texts[:200])
    letters = sum(map(str.isalpha, some))
    return "characters" if len(UNSPACED.findall(some)) > UNSPACED_SHARE * max(letters, 1) else "words"


def count(
    texts: Sequence[str], place: dict[str, int], analyze: Callable[[str], Iterable[str]]
) -> "csr_matrix":
    """How often each feature stands in each text, (N, F) float32.

    Args:
        texts: N of them.
        place: Feature -> column.
        analyze: Text -> its features.
    """
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    ends = [0]
    for text in texts:
        columns += [i for i in map(place.get, analyze(text)) if i is not None]
        ends.append(len(columns))
    ones = np.ones(len(columns), np.float32)
    counts = csr_matrix((ones, np.array(columns, np.int32), ends), shape=(len(texts), len(place)))
    counts.sum_duplicates()
    return counts


def weigh(counts: "csr_matrix", idf: np.ndarray) -> "csr_matrix":
    """Counts -> (1 + log count) x idf, each row of length 1: `TfidfTransformer(sublinear_tf=True)`."""
    from scipy.sparse import csr_matrix

    values = ((np.log(counts.data) + 1) * idf[counts.indices]).astype(np.float32)
    lengths = np.sqrt(np.bincount(_rows_of(counts), values.astype(np.float64) ** 2, counts.shape[0]))
    values /= np.maximum(lengths, 1e-12).astype(np.float32)[_rows_of(counts)]
    return csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def _rows_of(matrix: "csr_matrix") -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == TEXTS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


# ---- the plan ----------------------------------------------------------------------------------


def rows_to_count(sizes: np.ndarray, analyzer: Analyzer, seconds: float) -> int:
    """How many of the texts, in their order, can be counted within the time.

    Args:
        sizes: The bytes of each text, (N,).
        analyzer: What is counted.
        seconds: The time for everything.
    """
    cost = counting_seconds(np.minimum(sizes, MOST_LETTERS).cumsum(), analyzer)
    fitting = int(np.searchsorted(cost, seconds * COUNTING_SHARE, side="right"))
    return min(len(sizes), MOST_ROWS, max(fitting, LEAST_ROWS))


def counting_seconds(size: Any, analyzer: Analyzer) -> Any:
    """What counting so many bytes of text takes."""
    return size * SECONDS_A_BYTE[analyzer] * SAFETY


def plan(texts_with: np.ndarray, num_classes: int, seconds: float) -> tuple[Method, int, int]:
    """The method, its number of features and of iterations that end within the time.

    Args:
        texts_with: The number of texts that have a feature, the most frequent feature first, (F,).
        num_classes: C.
        seconds: The time that counting leaves.

    Returns:
        The most features that leave the solver enough iterations; centroids if there are none.
    """
    few, enough, most = ITERATIONS
    products, columns = texts_with.cumsum(), num_classes if num_classes > 2 else 1
    smaller = [MOST_FEATURES, 30_000, 20_000, 12_000, 8_000, 5_000, 3_000, LEAST_FEATURES]
    least_features = min(len(texts_with), max(LEAST_FEATURES, LEAST_A_CLASS * num_classes))
    sizes = [size for size in (len(texts_with), *smaller) if least_features <= size <= len(texts_with)]

    def iterations(size: int) -> int:
        cost = SECONDS_A_PRODUCT * products[size - 1] + SECONDS_A_WEIGHT * size
        return min(most, int(max(seconds, 0) / (SAFETY * columns * cost)))

    fitting = {size: iterations(size) for size in sizes if size * columns <= MOST_WEIGHTS}
    for least in (enough, few):
        if found := [size for size, steps in fitting.items() if steps >= least]:
            return "logistic regression", found[0], fitting[found[0]]
    return "nearest centroid", len(texts_with), 0


# ---- fitting -----------------------------------------------------------------------------------


def fit(texts: Sequence[str], labels: np.ndarray, analyzer: Analyzer, seconds: float) -> WordCounts:
    """Fit within about so many seconds. Draws no random number; the time itself decides nothing.

    Args:
        texts: N of them, as many as `rows_to_count` says.
        labels: Their classes, (N,) int64.
        analyzer: What to count.
        seconds: The time to plan with.

    Raises:
        ValueError: There is nothing to count, or only one class.
    """
    classes, given = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"expected texts of two classes, found {len(classes)}")
    counts, terms, order, left = _counted(texts, analyzer, seconds)
    method, size, iterations = plan(_texts_with(counts)[order], len(classes), left)
    features, idf, terms = _weighed(counts, terms, order[:size])
    converged = True
    coefficients: Any
    if method == "logistic regression":
        coefficients, intercepts, iterations, converged = _logistic(features, labels, iterations)
    else:
        coefficients, intercepts = _centroids(features, given, len(classes)), np.zeros(len(classes))
    training = Training(method, analyzer, len(texts), size, iterations, converged, seconds=0.0)
    return WordCounts(training, terms, idf, coefficients, intercepts.astype(np.float32), classes)


def fit_labels(texts: Sequence[str], tags: np.ndarray, analyzer: Analyzer, seconds: float) -> WordCounts:
    """The same for any number of labels a text: logistic regression of each label against the rest.

    Args:
        texts: N of them, as many as `rows_to_count` says.
        tags: Which labels each has, (N, C) bool.
        analyzer: What to count.
        seconds: The time to plan with.

    Raises:
        ValueError: There is nothing to count, or no time for a model of each label.
    """
    counts, terms, order, left = _counted(texts, analyzer, seconds)
    num_labels = tags.shape[1]
    method, size, most = plan(_texts_with(counts)[order], max(num_labels, 3), left)
    if method == "nearest centroid":  # which has no probabilities, as labels need
        raise ValueError(f"there is no time to count the words of {num_labels:,} labels")
    features, idf, terms = _weighed(counts, terms, order[:size])
    coefficients = np.zeros((num_labels, len(terms)), np.float32)
    intercepts = np.where(tags.all(0), 1.0, -1.0)  # of a label on all texts or on none
    steps, converged = 0, True
    for c in np.flatnonzero(tags.any(0) & ~tags.all(0)):
        both, ends, needed, enough = _logistic(features, tags[:, c], most)
        coefficients[c], intercepts[c] = both[1], ends[1]
        steps, converged = max(steps, needed), converged and enough
    training = Training(method, analyzer, len(texts), size, steps, converged, seconds=0.0)
    return WordCounts(
        training, terms, idf, coefficients, intercepts.astype(np.float32), np.arange(num_labels)
    )


def fit_numbers(texts: Sequence[str], numbers: np.ndarray, analyzer: Analyzer, seconds: float) -> WordCounts:
    """The same for numbers: ridge regression, in as few iterations as the time allows.

    Args:
        texts: N of them, as many as `rows_to_count` says.
        numbers: Of each, (N,) float64.
        analyzer: What to count.
        seconds: The time to plan with.

    Raises:
        ValueError: There is nothing to count.
    """
    from sklearn.linear_model import Ridge
    from threadpoolctl import threadpool_limits

    counts, terms, order, left = _counted(texts, analyzer, seconds)
    method, size, iterations = plan(_texts_with(counts)[order], 1, left)
    if method == "nearest centroid":  # which there is none of for numbers
        size, iterations = min(len(terms), LEAST_FEATURES), ITERATIONS[0]
    features, idf, terms = _weighed(counts, terms, order[:size])
    mean, deviation = numbers.mean(), numbers.std() or 1.0  # RIDGE is of standardised numbers
    model = Ridge(alpha=RIDGE, solver="lsqr", max_iter=iterations, tol=1e-3)  # sparse_cg may ignore max_iter
    with threadpool_limits(1, user_api="blas"):
        model.fit(features, ((numbers - mean) / deviation).astype(np.float32))
    steps = int(model.n_iter_[0])
    training = Training(
        "ridge regression", analyzer, len(texts), size, steps, steps < iterations, seconds=0.0
    )
    coefficients, intercepts = model.coef_.reshape(1, -1) * deviation, model.intercept_ * deviation + mean
    ends = np.array([intercepts], np.float32)
    return WordCounts(training, terms, idf, coefficients.astype(np.float32), ends, np.zeros(1, np.int64))


def _counted(
    texts: Sequence[str], analyzer: Analyzer, seconds: float
) -> tuple["csr_matrix", list[str], np.ndarray, float]:
    """Counts (N, F'), the features, their order, the most frequent first, and the seconds that are left."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        analyzer=ANALYZERS[analyzer], min_df=2, max_features=MOST_FEATURES, dtype=np.float32
    )
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # of a handful of texts no two share a word
        try:
            counts = vectorizer.set_params(min_df=1).fit_transform(texts)
        except ValueError:  # scikit-learn's words are of stop words, which are not removed here
            raise ValueError("no text has a word to count") from None
    total = np.asarray(counts.sum(0)).ravel()
    order = np.argsort(-total, kind="stable")  # as max_features chooses
    left = seconds - counting_seconds(sum(len(text.encode()) for text in texts), analyzer)
    return counts, vectorizer.get_feature_names_out().tolist(), order, left


def _texts_with(counts: "csr_matrix") -> np.ndarray:
    """The number of texts that have a feature, (F',)."""
    return np.bincount(counts.indices, minlength=counts.shape[1])


def _weighed(
    counts: "csr_matrix", terms: list[str], chosen: np.ndarray
) -> tuple["csr_matrix", np.ndarray, list[str]]:
    """TF-IDF of the chosen features (N, F) float32, their weights (F,) float32, and their names."""
    from sklearn.feature_extraction.text import TfidfTransformer

    kept = np.sort(chosen)
    weights = TfidfTransformer(sublinear_tf=True).fit(counts[:, kept])
    features = weights.transform(counts[:, kept]).astype(np.float32)
    return features, weights.idf_.astype(np.float32), [terms[i] for i in kept.tolist()]


def _logistic(
    features: "csr_matrix", labels: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Coefficients (C, F), intercepts (C,), iterations, and whether they were enough."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(C=STRENGTH, max_iter=most, random_state=0)
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is recorded
        model.fit(features, labels)
    coefficients, intercepts = model.coef_.astype(np.float32), model.intercept_
    if (
        len(coefficients) == 1
    ):  # of two classes scikit-learn keeps the second one's: a softmax needs the first's
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
    steps = int(model.n_iter_.max())
    return coefficients, intercepts, steps, steps < most


def _centroids(features: "csr_matrix", given: np.ndarray, num_classes: int) -> "csr_matrix":
    """The mean of each class's rows, of length 1, with its largest weights only: (C, F), sparse."""
    from scipy.sparse import csr_matrix

    num_rows = features.shape[0]
    members = csr_matrix(
        (np.ones(num_rows, np.float32), (given, np.arange(num_rows))), (num_classes, num_rows)
    )
    sums = (members @ features).tocsr()
    most = max(MOST_WEIGHTS // num_classes, 1)
    for c in range(num_classes):
        row = sums.data[sums.indptr[c] : sums.indptr[c + 1]]
        if len(row) > most:
            row[np.argpartition(-row, most)[most:]] = 0
        row /= max(float(np.sqrt((row.astype(np.float64) ** 2).sum())), 1e-12)
    sums.eliminate_zeros()
    sums.sort_indices()
    return sums
