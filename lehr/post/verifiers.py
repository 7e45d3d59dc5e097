"""Verifiable rewards: named checks of a response that return 1.0 or 0.0 (OLMo 2 section 5: RLVR).

A response without the end-of-turn token always gets 0.0. Arguments are plain JSON, so that prompts can be written to files
together with their verifiers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lehr.data.synthetic.wording import PREFIXES
from lehr.runtime.plugins import resolve

Args = Mapping[str, Any]

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


def _last_integer(args: Args, text: str) -> bool:
    return last_integer(text) == int(args["answer"])


def _strict_answer(args: Args, text: str) -> bool:
    match = _STRICT_ANSWER.fullmatch(text.strip())
    return match is not None and match[1] == str(args["answer"])


def _exact(args: Args, text: str) -> bool:
    return text.strip() == str(args["text"])


def _repeat(args: Args, text: str) -> bool:
    return text.split() == [args["word"]] * int(args["times"])


def _ordered_list(args: Args, text: str) -> bool:
    return [item.strip() for item in text.strip().removesuffix(".").split(",")] == list(args["items"])


def _json_object(args: Args, text: str) -> bool:
    try:
        value = json.loads(text, object_pairs_hook=_object_without_twins)
    except (ValueError, RecursionError):
        return False
    # Compared as JSON, since in Python True == 1 and 6.0 == 6.
    return isinstance(value, dict) and json.dumps(value, sort_keys=True) == json.dumps(args["object"], sort_keys=True)


def _object_without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_prefix(args: Args, text: str) -> bool:
    return bool(text.strip()) and not has_prefix(text)


def _asked_format(args: Args, text: str) -> bool:
    return _ASKED_FORMAT.search(text.strip()) is not None


def _after_chatter(args: Args, text: str) -> bool:
    start = text.lstrip()
    chatter = next((p for p in PREFIXES if start.startswith(p.strip())), "")
    name, inner = args["of"]
    return _check(name, inner, start[len(chatter.strip()) :].lstrip())


def _all_of(args: Args, text: str) -> bool:
    return all(_check(name, inner, text) for name, inner in args["of"])


VERIFIERS: dict[str, Callable[[Args, str], bool]] = {
    "last_integer": _last_integer,  # {answer}: the value alone
    "strict_answer": _strict_answer,  # {answer}: only the working, then "the answer is N."
    "exact": _exact,  # {text}
    "repeat": _repeat,  # {word, times}
    "ordered_list": _ordered_list,  # {items}: separated by commas
    "json_object": _json_object,  # {object}: the whole response is this object
    "asked_format": _asked_format,  # {}: ends with "the answer is N.", for any N
    "after_chatter": _after_chatter,  # {of: [name, args]}: passes after an opening like "Sure!" is removed
    "no_prefix": _no_prefix,  # {}: no opening like "Sure!"
    "all_of": _all_of,  # {of: [[name, args], ...]}
}


def _check(name: str, args: Args, text: str) -> bool:
    return verifier(name)(args, text)


def verifier(name: str) -> Callable[[Args, str], bool]:
    """The verifier of that name, built in or `module:function`. Raises UserError if there is none."""
    return resolve("verifier", name, VERIFIERS)


def verify(name: str, args: Args, response_text: str, finished: bool) -> float:
    """1.0 if `response_text` passes the verifier `name`, otherwise 0.0. `finished`: it ended with the end-of-turn token.

    Raises UserError for an unknown verifier.
    """
    right = _check(name, args, response_text)
    return 1.0 if right and finished else 0.0
