"""Numbers in environment variables."""

from __future__ import annotations

import math
import os

from lehr.runtime.errors import UserError

_MOST_SECONDS = 1e7  # 115 days: clocks and waits fail with much larger numbers


def digits(text: str) -> int | None:
    """The number that ASCII digits write, at most 15 of them; None for any other text. `str.isdigit` accepts digits of other
    scripts and superscripts, and `int` raises ValueError for more than 4,300 digits."""
    return int(text) if len(text) <= 15 and text.isascii() and text.isdigit() else None


def whole(name: str, default: int, least: int = 0) -> int:
    """The integer, at least `least`, in the variable `name`; `default` if it is not set. Raises UserError for any other
    text."""
    text = os.environ.get(name)
    if text is None:
        return default
    number = digits(text)
    if number is None or number < least:
        raise UserError(
            f"{text[:40]!r} is not a whole number of {least} or more", where=name, remedy="set it to one, or unset it"
        )
    return number


def amount(name: str, default: float, most: float = _MOST_SECONDS) -> float:
    """The number from 0 to `most` in the variable `name`, in seconds unless the name tells otherwise; `default` if it is not
    set. Raises UserError for any other text."""
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        number = float(text) if len(text) <= 40 else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise UserError(f"{text[:40]!r} is not a number from 0 to {most:g}", where=name, remedy="set it to one, or unset it")
    return number
