"""Leaf: the words that the embedded reviews of `sample.py` are made of.

Everything here was written for this project. Adjectives come in four strengths per theme, so that one
opinion can be said in many ways: plainly ("the soup was superb"), by denying the opposite ("the soup was
anything but bland") or by order ("superb rather than bland").
"""

from typing import NamedTuple


class Scale(NamedTuple):
    """Adjectives of one theme, from very good to very bad."""

    great: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    awful: tuple[str, ...]


SCALES: dict[str, Scale] = {
    "food": Scale(
        ("superb", "delicious", "heavenly", "exquisite"),
        ("tasty", "fresh", "well seasoned", "appetising"),
        ("bland", "stale", "overcooked", "greasy"),
        ("inedible", "revolting", "rotten", "disgusting"),
    ),
    "people": Scale(
        ("charming", "delightful", "wonderfully kind", "exceptional"),
        ("friendly", "polite", "helpful", "attentive"),
        ("cold", "careless", "unhelpful", "grumpy"),
        ("rude", "hostile", "insulting", "shameless"),
    ),
    "place": Scale(
        ("gorgeous", "spotless", "magnificent", "beautiful"),
        ("clean", "comfortable", "cosy", "tidy"),
        ("shabby", "cramped", "noisy", "draughty"),
        ("filthy", "squalid", "disgraceful", "horrid"),
    ),
    "work": Scale(
        ("flawless", "perfect", "immaculate", "masterly"),
        ("careful", "sound", "neat", "reliable"),
        ("sloppy", "uneven", "clumsy", "shoddy"),
        ("ruinous", "disastrous", "useless", "hopeless"),
    ),
    "money": Scale(
        ("unbeatable", "tiny", "splendid", "minimal"),
        ("fair", "reasonable", "modest", "honest"),
        ("steep", "inflated", "high", "excessive"),
        ("outrageous", "scandalous", "absurd", "extortionate"),
    ),
    "time": Scale(
        ("instant", "effortless", "seamless", "painless"),
        ("prompt", "quick", "smooth", "punctual"),
        ("slow", "tiresome", "sluggish", "tedious"),
        ("endless", "unbearable", "chaotic", "nightmarish"),
    ),
}

# The words of the verdict, one row per star level, 1 to 5.
VERDICTS: tuple[tuple[str, ...], ...] = (
    ("awful", "dreadful", "terrible", "appalling", "horrible"),
    ("bad", "poor", "disappointing", "weak", "second-rate"),
    ("average", "ordinary", "middling", "unremarkable", "passable"),
    ("good", "nice", "pleasant", "decent", "solid"),
    ("excellent", "outstanding", "fantastic", "brilliant", "amazing"),
)

# One opinion. T: subject and verb, P: its pronoun and verb, X: an adjective of the wanted polarity,
# Y: one of the opposite polarity.
PLAIN = (
    "{T} {X}",
    "{T} really {X}",
    "{T} {X} from start to finish",
    "I found that {T} {X}",
    "to my mind {T} {X}",
)
DENIED = ("{T} not {Y}", "{T} not {Y} at all", "{T} never {Y}", "{T} far from {Y}", "{T} anything but {Y}")
ORDERED = (
    "{T} {X} rather than {Y}",
    "{T} more {X} than {Y}",
    "{T} {X}, not {Y}",
    "{T} not {Y} but {X}",
    "{T} {Y} last year, but this time {P} {X}",
    "{T} {X} this time, where once {P} {Y}",
    "friends had told us that {T} {Y}, but {P} {X}",
)
# Two opinions; B is the one that counts.
MIXED = (
    "{A}, but {B}",
    "although {A}, {B}",
    "{B}, even though {A}",
    "{A}; {B} all the same",
    "{A}, and yet {B}",
)


class Verdict(NamedTuple):
    """Ways to say a verdict.

    X: a word of its level, Y: of any other level, Z: of the mirrored level; AX, AY, AZ: the same with
    their article; N: a noun for the business. `mild` and `strong` deny Z (for 2 and 4, and for 1 and 5
    stars), `middling` denies both ends (3 stars).
    """

    plain: tuple[str, ...]
    ordered: tuple[str, ...]
    mild: tuple[str, ...]
    strong: tuple[str, ...]
    middling: tuple[str, ...]


TITLE = Verdict(
    ("Simply {X}.", "{AX} {N}.", "{X}, I would say."),
    (
        "{X} rather than {Y}.",
        "More {X} than {Y}.",
        "{X}, not {Y}.",
        "Not {Y} but {X}.",
        "{AX} {N} where I had expected {AY} one.",
    ),
    ("Not {AZ} {N}.", "Not {Z} at all.", "I would not call it {Z}."),
    ("Anything but {Z}.", "Far from {AZ} {N}.", "Never {Z}."),
    ("Neither {Y} nor {Z}.", "Not {Y}, and not {Z} either.", "Neither {AY} {N} nor {AZ} one."),
)
CLOSING = Verdict(
    ("Overall, {AX} {N}.", "All in all it was {X}.", "My verdict: {X}."),
    (
        "All in all, {X} rather than {Y}.",
        "In the end it was more {X} than {Y}.",
        "Overall I would call it {X}, not {Y}.",
        "All in all not {Y} but {X}.",
        "Friends call it {Y}; to me it was {X}.",
        "To me it was {X}, though friends call it {Y}.",
        "I had expected {AY} {N} and found {AX} one.",
        "In the end I found {AX} {N} where I had expected {AY} one.",
    ),
    ("Overall, not {AZ} {N}.", "All in all it was not {Z}.", "In the end I would not call it {Z}."),
    ("Overall, anything but {AZ} {N}.", "All in all it was far from {Z}.", "I would never call it {Z}."),
    ("Overall, neither {AY} {N} nor {AZ} one.", "All in all it was neither {Y} nor {Z}."),
)
