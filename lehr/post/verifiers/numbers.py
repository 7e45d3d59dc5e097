"""The number in which a response to a word problem ends, as GSM8K (Cobbe et al. 2021) marks it."""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic import field_validator

from lehr.post.verifiers.arguments import Args, Arguments

# Thousands in threes, else digits; `1,2345` is a list. Only ASCII digits count.
_NUMBER = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+")
_BEFORE = re.compile(r"(.?)(?<![-\u2212])([-\u2212])? ?[$€£¥]?([-\u2212])?$", re.DOTALL)
_MARK = "####"
_MOST_CHARACTERS = 100  # of a number


def parsed(text: str) -> Decimal | None:
    """The last number of a text; after the last `####` the first, if that is there. None if there is none.

    `1,234`, `$1,234.50`, `-$5`, `\u22125` and `.5` are numbers; `12%` is 12. A minus sign counts unless a digit precedes it.
    """
    marked = text.rpartition(_MARK)
    found = list(_NUMBER.finditer(text if not marked[1] else marked[2]))
    if not found:
        return None
    whole = text if not marked[1] else marked[2]
    match = found[0] if marked[1] else found[-1]
    digits = match.group().replace(",", "")
    if len(digits) > _MOST_CHARACTERS:
        return None
    return -Decimal(digits) if _negative(whole[max(match.start() - 4, 0) : match.start()]) else Decimal(digits)


def _negative(before: str) -> bool:
    sign = _BEFORE.search(before)
    if sign is None or not (sign[2] or sign[3]):
        return False
    return not before[: sign.start(2) if sign[2] else sign.start(3)].rstrip(" ")[-1:].isdigit()


def last_number(args: Args, text: str) -> bool:
    """The last number of the response equals `answer`: 1,234.0 is 1234."""
    found = parsed(text)
    return found is not None and found == parsed(str(args["answer"]))


class OneNumber(Arguments):
    """`answer`: a number, or text that has one, as GSM8K's own solutions."""

    answer: int | float | str

    @field_validator("answer")
    @classmethod
    def _has_one(cls, value: int | float | str) -> int | float | str:
        if parsed(str(value)) is None:
            raise ValueError("it has no number")
        return value
