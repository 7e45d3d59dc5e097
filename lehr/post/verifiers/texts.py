"""Short answers of the generated families: the last integer, the strict form, lists, one JSON object, openings."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import Field

from lehr.data.synthetic.wording import PREFIXES
from lehr.post.verifiers.arguments import Args, Arguments, Integer

_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
_STRICT_ANSWER = re.compile(r"(?:[0-9+\-=, ]+ so )?the answer is (-?[0-9]+)\.", re.IGNORECASE)
_ASKED_FORMAT = re.compile(r"answer is -?[0-9]+\.$", re.IGNORECASE)
_CHATTY = re.compile(r"(?:sure|of course|certainly|happy to help|here you go|okay|ok)\b[ ,.!:]", re.IGNORECASE)
_MAX_DIGITS = 18  # fits a 64-bit integer; Python refuses to parse numbers of more than 4,300 digits


def last_integer(text: str) -> int | None:
    """The last number of a text if it is an integer: `1,234` is 1234, `1,2` is a list that ends in 2, `8.5` gives None.

    A minus sign counts unless a number precedes it: `= -5` is -5, `3-5` and `3 -5` end in 5.
    """
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    match = matches[-1]
    digits = match.group().rstrip(",")
    if "." in digits:
        return None
    before = text[: match.start()].rstrip(" ")[-1:]
    negative = digits.startswith("-") and not (before.isascii() and before.isdigit())
    digits = digits.lstrip("-")
    if _GROUPED.fullmatch(digits):
        digits = digits.replace(",", "")
    elif "," in digits:
        digits, negative = digits.rsplit(",", 1)[-1], False
    if len(digits) > _MAX_DIGITS:
        return None
    return -int(digits) if negative else int(digits)


def has_prefix(text: str) -> bool:
    """True if a response opens with chatter ("Sure! ...") before its answer."""
    start = text.lstrip()
    return start.startswith(tuple(p.strip() for p in PREFIXES)) or _CHATTY.match(start) is not None


def is_last_integer(args: Args, text: str) -> bool:
    """The last number of the response is the integer `answer`, whatever stands around it."""
    return last_integer(text) == int(args["answer"])


def strict_answer(args: Args, text: str) -> bool:
    """Nothing but the working and "the answer is N." after it."""
    match = _STRICT_ANSWER.fullmatch(text.strip())
    return match is not None and match[1] == str(args["answer"])


def exact(args: Args, text: str) -> bool:
    """The response is `text`, but for blanks around it."""
    return text.strip() == str(args["text"])


def repeat(args: Args, text: str) -> bool:
    """`word`, `times` times, and nothing else."""
    return text.split() == [args["word"]] * int(args["times"])


def ordered_list(args: Args, text: str) -> bool:
    """The `items`, separated by commas."""
    return [item.strip() for item in text.strip().removesuffix(".").split(",")] == list(args["items"])


def json_object(args: Args, text: str) -> bool:
    """The whole response is this JSON `object`; keys in any order, none twice."""
    try:
        value = json.loads(text, object_pairs_hook=object_without_twins)
    except (ValueError, RecursionError):
        return False
    # Compared as JSON, since in Python True == 1 and 6.0 == 6.
    return isinstance(value, dict) and json.dumps(value, sort_keys=True) == json.dumps(args["object"], sort_keys=True)


def object_without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: raises ValueError for a key that stands twice in an object."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def no_prefix(args: Args, text: str) -> bool:
    """No opening like "Sure!"."""
    return bool(text.strip()) and not has_prefix(text)


def asked_format(args: Args, text: str) -> bool:
    """It ends with "the answer is N.", for any N."""
    return _ASKED_FORMAT.search(text.strip()) is not None


class OneInteger(Arguments):
    answer: Integer


class OneText(Arguments):
    text: str


class Repeated(Arguments):
    word: str
    times: Annotated[int, Field(ge=1)]


class Items(Arguments):
    items: list[str]


class OneObject(Arguments):
    object: dict[str, Any]


class Nothing(Arguments):
    pass
