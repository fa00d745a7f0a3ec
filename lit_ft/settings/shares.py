"""`--shares 0.25,0.5,1`: the parts of the training texts that a learning curve is made of."""

import math

from lit_ft.errors import UserError, as_written

EXAMPLE = "--shares=0.25,0.5,1"


def shares_of(text: str) -> tuple[float, ...]:
    """The shares that a flag names, ascending.

    Args:
        text: Shares with commas between them, with or without brackets around all; 25% is 0.25.

    Raises:
        UserError: There is none, one is no number above 0 and at most 1, or one stands there twice.
    """
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("[]", "()"):
        inner = inner[1:-1].strip()
    if not inner:
        raise UserError(f"expected shares of the training texts, found {as_written(text)}; set {EXAMPLE}")
    found: dict[float, str] = {}
    for item in (part.strip() for part in inner.split(",")):
        share = _share(item, text)
        if share in found:
            twice = f"{item} twice" if found[share] == item else f"{found[share]} and {item}"
            raise UserError(
                f"expected each share of --shares once, found {twice} in {as_written(text)}; leave one out"
            )
        found[share] = item
    return tuple(sorted(found))


def _share(item: str, text: str) -> float:
    """One share; the error says what a number of percent, such as 25, is written as."""
    percent = item.endswith("%")
    try:
        # 7% is read as 7e-2, which is the number that is nearest to 0.07; 7 / 100 need not be.
        value = float(f"{item[:-1].strip()}e-2" if percent else item)
    except ValueError:
        value = math.nan
    if 0 < value <= 1:  # NaN is not
        return value
    where = "" if item == text else f" in {as_written(text)}"
    advice = f"set {EXAMPLE}"
    if not percent and 1 < value <= 100:
        advice = f"write {value / 100:g} or {item}% if percent are meant"
    raise UserError(
        "expected shares of the training texts above 0 and at most 1, "
        f"found {as_written(item)}{where}; {advice}"
    )
