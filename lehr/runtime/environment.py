"""Numbers in environment variables."""

from __future__ import annotations

import math
import os

from lehr.runtime.errors import UserError

_MOST_SECONDS = 1e7  # 115 days: clocks and waits fail with much larger numbers


def whole(name: str, default: int, least: int = 0) -> int:
    """The integer, at least `least`, in the variable `name`; `default` if it is not set. Raises UserError for any other
    text."""
    text = os.environ.get(name)
    if text is None:
        return default
    number = int(text) if len(text) <= 15 and text.isascii() and text.isdigit() else -1
    if number < least:
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
