"""The words that the embedded reviews are made of, and the businesses that they are about.

Written for this project.
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


class Domain(NamedTuple):
    """One kind of business.

    `things` maps a theme of `sample_phrases.SCALES` to subjects with their verb ("the soup was");
    `openings` begin a review, `details` are neutral sentences, `places` are nouns for the business.
    """

    places: tuple[str, ...]
    things: dict[str, tuple[str, ...]]
    openings: tuple[str, ...]
    details: tuple[str, ...]


DOMAINS: tuple[Domain, ...] = (
    Domain(
        ("restaurant", "place", "bistro"),
        {
            "food": ("the soup was", "the lamb was", "the vegetables were", "the fish was"),
            "people": ("the waiters were", "our waitress was", "the owner was"),
            "place": ("the dining room was", "the terrace was", "our table was"),
            "money": ("the bill was", "the price of the wine was", "the prices were"),
            "time": ("the service was", "the wait for the main course was"),
        },
        (
            "We came here on a {day} with {who}.",
            "Booked a table for four on {day} evening, for a birthday.",
            "I had walked past this restaurant for years before {who} and I went in.",
            "Dinner for two, {day} night, no reservation.",
        ),
        (
            "We ordered the lamb, the fish and a bottle of red wine.",
            "The menu has two pages and changes with the season.",
            "The kitchen is open, so you can watch the cooks at work.",
            "We sat next to the window and shared the starters.",
            "I had the soup of the day and {who} took the fish.",
        ),
    ),
    Domain(
        ("hotel", "place", "guest house"),
        {
            "food": ("the breakfast was", "the rolls were", "the coffee was"),
            "people": ("the receptionist was", "the porters were", "the night manager was"),
            "place": ("our room was", "the bathroom was", "the lobby was", "the beds were"),
            "money": ("the room rate was", "the charge for parking was", "the prices at the bar were"),
            "time": ("the check-in was", "the room service was"),
        },
        (
            "We stayed for three nights in {month} with {who}.",
            "I spent one night here on the way to a wedding.",
            "Business trip, two nights, arrived late on {day}.",
            "{who} picked this hotel because it is close to the station.",
        ),
        (
            "Our room was on the third floor and faced the street.",
            "There is a lift, and a small bar next to the lobby.",
            "Breakfast is served from seven until ten.",
            "We left the car in the yard behind the house.",
            "The key is a plastic card that also works for the lift.",
        ),
    ),
    Domain(
        ("garage", "workshop", "place"),
        {
            "work": ("the repair was", "the paint job was", "the new brakes were", "the new tyres were"),
            "people": ("the mechanics were", "the man at the desk was", "the boss was"),
            "place": ("the waiting room was", "the yard was"),
            "money": ("the invoice was", "the estimate was", "the labour costs were"),
            "time": ("the repair time was", "the handover was"),
        },
        (
            "Brought my old van in on {day} with a strange noise from the brakes.",
            "My car broke down in {month} and {who} sent me to this garage.",
            "I needed new tyres before a long trip.",
            "The yearly inspection was due, so I called them on {day}.",
        ),
        (
            "They keep the car overnight and give you a bicycle.",
            "The part had to be ordered from the factory.",
            "I waited in the office with a magazine.",
            "The old parts were in a box on the back seat.",
            "They work on vans and on motorbikes as well.",
        ),
    ),
    Domain(
        ("shop", "store", "place"),
        {
            "work": ("the shoes were", "the stitching was", "the alteration was", "the gift wrap was"),
            "people": ("the assistants were", "the woman at the till was", "the manager was"),
            "place": ("the fitting rooms were", "the window display was", "the ground floor was"),
            "money": ("the prices were", "the delivery fee was", "the sale price was"),
            "time": ("the delivery was", "the queue at the till was", "the refund was"),
        },
        (
            "Went in on {day} to look for shoes with {who}.",
            "I needed a coat for the winter and tried this shop in {month}.",
            "Ordered online and collected in the store on {day}.",
            "{who} gave me a voucher for this shop.",
        ),
        (
            "The coats are upstairs and the shoes are on the ground floor.",
            "I tried on three pairs and took the brown ones.",
            "They close at six, and at noon on Saturdays.",
            "You can pay by card or in cash.",
            "The parcel came in a box with the receipt inside.",
        ),
    ),
    Domain(
        ("salon", "hairdresser", "place"),
        {
            "work": ("the haircut was", "the colour was", "the highlights were"),
            "people": ("the stylist was", "the trainees were", "the girl who washed my hair was"),
            "place": ("the chairs were", "the salon itself was"),
            "money": ("the price for a cut was", "the extra charge was"),
            "time": ("the appointment was", "the wait was"),
        },
        (
            "Had a cut and colour on {day}, a day before a party.",
            "My usual hairdresser moved away in {month}, so I tried this salon.",
            "{who} has been coming here for years and took me along.",
            "I walked in without an appointment on {day} morning.",
        ),
        (
            "I asked for two inches off and a bit of colour.",
            "They use their own brand of shampoo.",
            "There were two people before me.",
            "The whole visit took about an hour and a half.",
            "They send a reminder the day before.",
        ),
    ),
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "March", "April", "June", "July", "September", "October", "December")
WHO = ("my sister", "my husband", "my wife", "a colleague", "my mother", "an old friend", "my neighbour")

# Neutral sentences for every kind of business; long reviews are long because of these.
ASIDES = (
    "It is a short walk from the station, and there is parking behind the building.",
    "I am writing this a week later, so I have had time to think about it.",
    "The town has changed a lot since the new road was built.",
    "It was raining that day and the street was full of people.",
    "We live about half an hour away by bus.",
    "I do not write many reviews, but {who} asked me to.",
    "They have been there for about ten years, I believe.",
    "There is a sign outside, though you have to look for it.",
    "Opening hours are on the door and on the website.",
    "I had read about it in the local paper.",
    "You can book by phone or by email.",
    "On a {day} it is usually half full.",
    "They told me that {month} is the busy season.",
    "A bus stops across the street every ten minutes.",
    "The building used to be a school, or so {who} told me.",
    "My phone had no signal inside, for what it is worth.",
)
