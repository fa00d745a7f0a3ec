"""The embedded reviews, written one after another from the phrases and one random stream."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from zlib import crc32

from lit_ft.sample import phrases
from lit_ft.sample.phrases import Domain, Verdict

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")

CLASSES = 5

# One entry per star level, 1 to 5.
_STAR_SHARES = (0.20, 0.18, 0.19, 0.21, 0.22)
_POSITIVE_SHARES = (0.10, 0.28, 0.50, 0.72, 0.90)  # of the opinions in the body
_STRONG_SHARES = (0.60, 0.25, 0.25, 0.25, 0.60)  # of the opinions: "superb" where others say "tasty"

_NOISE = 0.06  # of the labels: moved to a neighbouring star, as in people's ratings
_TITLE_SHARE = 0.9  # the others give their verdict only at the end, where it is much harder to find


class Opinion(NamedTuple):
    """What a review says of one thing: its theme, such as `staff`, and whether it is praise."""

    theme: str
    positive: bool


class Review(NamedTuple):
    """A text, its label in [0, CLASSES), and the opinions in it."""

    text: str
    label: int
    opinions: tuple[Opinion, ...]

    @property
    def score(self) -> float:
        """From 0 to 100: the mean of the stars (1 is 0, 5 are 100) and of the share of praise in opinions."""
        stars = 100 * self.label / (CLASSES - 1)
        if not self.opinions:
            return stars
        praise = 100 * sum(said.positive for said in self.opinions) / len(self.opinions)
        return round((stars + praise) / 2, 1)

    @property
    def aspects(self) -> list[str]:
        """The themes of its opinions, in their own order."""
        spoken_of = {said.theme for said in self.opinions}
        return [theme for theme in phrases.SCALES if theme in spoken_of]


class ReviewWriter:
    """Writes reviews; the same seed, the same reviews.

    Only `Random.random` is used: Python promises its sequence for a seed, but not that of `choice` or
    `shuffle`. The arithmetic is sums and products alone: all platforms write the same texts.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self.opinions: list[Opinion] = []  # of the review that was written last

    def chance(self, share: float) -> bool:
        return self._random() < share

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        pool = list(options)
        return [pool.pop(int(self._random() * len(pool))) for _ in options]

    def star(self) -> int:
        """A star level in [0, CLASSES)."""
        draw = self._random()
        for star, share in enumerate(_STAR_SHARES):
            draw -= share
            if draw < 0:
                return star
        return CLASSES - 1

    def rating(self, star: int) -> int:
        """The label: the star, or sometimes a neighbour of it."""
        if not self.chance(_NOISE):
            return star
        return self.pick([near for near in (star - 1, star + 1) if 0 <= near < CLASSES])

    def review(self, star: int) -> str:
        """A review whose verdict is `star`, in [0, CLASSES)."""
        domain = self.pick(phrases.DOMAINS)
        things = [(theme, thing) for theme, options in domain.things.items() for thing in options]
        self.opinions = []
        unsaid = self.shuffled(things)
        neutral = self.shuffled(domain.details + phrases.ASIDES)
        skew = self._random()
        for _ in range(4):
            skew *= skew  # to the 16th power, by products alone: those are the same on every platform
        words_wanted = 10 + 35 * self._random() + 320 * skew  # a few reviews are very long

        title = self.chance(_TITLE_SHARE)
        sentences = [self._verdict(phrases.TITLE, domain, star)] if title else []
        if self.chance(0.8):
            sentences.append(self.pick(domain.openings))
        words = 0
        while not words or words < words_wanted:
            if neutral and self.chance(0.45):
                sentences.append(neutral.pop())
            else:
                if len(unsaid) < 2:
                    unsaid = self.shuffled(things)
                positive = self.chance(_POSITIVE_SHARES[star])
                strong = self.chance(_STRONG_SHARES[star])
                forms = [phrases.PLAIN, phrases.DENIED]
                if self.chance(0.3):
                    against = self._opinion(unsaid.pop(), not positive, strong, forms)
                    opinion = self._opinion(unsaid.pop(), positive, strong, forms)
                    opinion = self.pick(phrases.MIXED).format(A=against, B=opinion)
                else:
                    opinion = self._opinion(unsaid.pop(), positive, strong, [*forms, phrases.ORDERED])
                sentences.append(opinion + ("!" if self.chance(0.05) else "."))
            words = sum(sentence.count(" ") + 1 for sentence in sentences)
        if not title or self.chance(0.3):
            sentences.append(self._verdict(phrases.CLOSING, domain, star))
        return " ".join(self._finished(sentence) for sentence in sentences)

    def _opinion(
        self, about: tuple[str, str], positive: bool, strong: bool, forms: Sequence[tuple[str, ...]]
    ) -> str:
        theme, thing = about
        self.opinions.append(Opinion(theme, positive))
        scale = phrases.SCALES[theme]
        said, opposite = (scale.great, scale.awful) if strong else (scale.good, scale.bad)
        if not positive:
            said, opposite = opposite, said
        pronoun = "they were" if thing.endswith(" were") else "it was"
        form = self.pick(self.pick(forms))
        return form.format(T=thing, P=pronoun, X=self.pick(said), Y=self.pick(opposite))

    def _verdict(self, verdict: Verdict, domain: Domain, star: int) -> str:
        other = (star + 1 + int(self._random() * (CLASSES - 1))) % CLASSES
        mirrored = CLASSES - 1 - star
        denied = (verdict.strong, verdict.mild, verdict.middling, verdict.mild, verdict.strong)[star]
        form = self.pick((verdict.plain, verdict.ordered, verdict.ordered, denied))
        if form is verdict.middling:  # both ends
            mirrored = CLASSES - 1 - other
        levels = {"X": star, "Y": other, "Z": mirrored}
        words = {name: self.pick(phrases.VERDICTS[level]) for name, level in levels.items()}
        articles = {f"A{name}": _with_article(word) for name, word in words.items()}
        return self.pick(form).format(**words, **articles, N=self.pick(domain.places))

    def _finished(self, sentence: str) -> str:
        for slot, options in (("{day}", phrases.DAYS), ("{month}", phrases.MONTHS), ("{who}", phrases.WHO)):
            if slot in sentence:
                sentence = sentence.replace(slot, self.pick(options))
        return sentence[0].upper() + sentence[1:]


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


SAMPLE_VERSION = 1  # part of every cache key: raise it whenever a text, a label or the encoder changes
TRAIN_SIZE = 6000
TEST_SIZE = 1000

_TEST_BUCKETS = 5  # a text belongs to test when crc32(text) % 5 == 0: the splits cannot share one


def write_reviews(split: Literal["train", "test"], seed: int = 0) -> list[Review]:
    """Write the embedded reviews of one split: `TRAIN_SIZE` or `TEST_SIZE` of them, no two texts the same.

    Args:
        split: `train` or `test`; no text is in both, whatever the seeds.
        seed: Another seed gives other reviews of the same kind.
    """
    writer = ReviewWriter(2 * seed + (split == "test"))
    reviews: dict[str, Review] = {}
    while len(reviews) < (TEST_SIZE if split == "test" else TRAIN_SIZE):
        star = writer.star()
        text, label = writer.review(star), writer.rating(star)
        if (crc32(text.encode()) % _TEST_BUCKETS == 0) == (split == "test"):
            reviews.setdefault(text, Review(text, label, tuple(writer.opinions)))
    return list(reviews.values())


def make_reviews(split: Literal["train", "test"], seed: int = 0) -> tuple[list[str], list[int]]:
    """The texts of `write_reviews`, and their labels in [0, CLASSES): stars minus 1."""
    reviews = write_reviews(split, seed)
    return [review.text for review in reviews], [review.label for review in reviews]


def sample_dataset(split: Literal["train", "test"]) -> "Dataset":
    """The embedded reviews as a `datasets.Dataset`.

    `text`; `label` from 0 to 4, named by stars; `score`, a number from 0 to 100: see `Review.score`; and
    `aspects`, what its opinions are about (food, people, place, work, money, time).
    """
    from datasets import ClassLabel, Dataset, Features, List, Value

    reviews = write_reviews(split)
    stars = ["1 star", *(f"{n} stars" for n in range(2, CLASSES + 1))]
    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=stars),
            "score": Value("float64"),
            "aspects": List(Value("string")),
        }
    )
    columns = {name: [getattr(review, name) for review in reviews] for name in features}
    return Dataset.from_dict(columns, features=features)
