"""The verifiers by name, what arguments each takes, and those that are made of other verifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, field_validator

from lehr.data.synthetic.wording import PREFIXES
from lehr.post.verifiers import gym, instructions, matching, mathematics, numbers, programs, schemas, texts
from lehr.post.verifiers.arguments import Args, Arguments, checked
from lehr.runtime.plugins import resolve

Score = float  # of which True and False are 1.0 and 0.0


def after_chatter(args: Args, text: str) -> Score:
    """The verifier `of` passes after an opening like "Sure!" is removed."""
    start = text.lstrip()
    chatter = next((p for p in PREFIXES if start.startswith(p.strip())), "")
    name, inner = args["of"]
    return verifier(name)(inner, start[len(chatter.strip()) :].lstrip())


def all_of(args: Args, text: str) -> Score:
    """The lowest score of several verifiers: 1.0 if all pass."""
    return min(float(verifier(name)(inner, text)) for name, inner in args["of"])


def _pair(value: Any) -> Any:
    """[name, arguments], both right."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)):
        raise ValueError("it is a list of a verifier's name and its arguments")
    check_args(value[0], value[1])
    return value


class One(Arguments):
    of: list[Any]

    _right = field_validator("of", mode="before")(_pair)


class Several(Arguments):
    of: Annotated[list[Any], Field(min_length=1)]

    @field_validator("of")
    @classmethod
    def _right(cls, value: list[Any]) -> list[Any]:
        return [_pair(pair) for pair in value]


_LISTED: dict[str, tuple[Callable[[Args, str], Score], type[Arguments]]] = {
    "last_integer": (texts.is_last_integer, texts.OneInteger),
    "strict_answer": (texts.strict_answer, texts.OneInteger),
    "exact": (texts.exact, texts.OneText),
    "repeat": (texts.repeat, texts.Repeated),
    "ordered_list": (texts.ordered_list, texts.Items),
    "json_object": (texts.json_object, texts.OneObject),
    "asked_format": (texts.asked_format, texts.Nothing),
    "no_prefix": (texts.no_prefix, texts.Nothing),
    "after_chatter": (after_chatter, One),
    "all_of": (all_of, Several),
    "last_number": (numbers.last_number, numbers.OneNumber),
    "math_equal": (mathematics.math_equal, mathematics.Mathematics),
    "exact_match": (matching.exact_match, matching.Answers),
    "mentions": (matching.mentions, matching.Mentioned),
    "regex": (matching.regex, matching.Pattern),
    "instructions": (instructions.follows, instructions.Instructions),
    "json_schema": (schemas.json_schema, schemas.Schema),
    "tool_call": (schemas.tool_call, schemas.ToolCalls),
    "code_tests": (programs.code_tests, programs.Tests),
    "reasoning_gym": (gym.reasoning_gym, gym.Entry),
}
VERIFIERS: dict[str, Callable[[Args, str], Score]] = {name: check for name, (check, _) in _LISTED.items()}


def verifier(name: str) -> Callable[[Args, str], Score]:
    """The verifier of that name, built in or `module:function`. Raises UserError if there is none."""
    return resolve("verifier", name, VERIFIERS)


def check_args(name: str, args: Args) -> None:
    """Raises UserError, naming verifier and argument, if `args` are not what verifier `name` takes, if there is no
    such verifier,
    if its package is not installed, or if this machine refuses what it needs. Cheap enough for every row of a file.

    A verifier of one's own, `module:function`, is asked if it has an attribute `check_args`, called as `f(args)`.
    """
    if name in _LISTED:
        checked(name, _LISTED[name][1], args)
        return
    asks = getattr(verifier(name), "check_args", None)
    if callable(asks):
        asks(args)


def verify(name: str, args: Args, response_text: str, finished: bool) -> float:
    """The score of `response_text` by the verifier `name`; 0.0 unless it `finished`: ended with the end-of-turn token.

    `args` are taken to have passed `check_args`. Raises UserError for an unknown verifier, or where the machine refuses what it
    needs.
    """
    if not finished:
        verifier(name)
        return 0.0
    return float(verifier(name)(args, response_text))
