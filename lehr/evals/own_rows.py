"""Rows of a task of one's own, and what its templates make of them. Rows are other people's text, and never a template."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lehr.data.synthetic.multiple_choice import LETTERS
from lehr.post.jinja import compiled
from lehr.runtime.errors import UserError

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
assert ALPHABET.startswith("".join(LETTERS))
LISTED = "listed"  # the variable with the listed choices


@dataclass(frozen=True)
class Templates:
    """The keys of a task that say what stands in a prompt. `literal_lists`: what a target's template writes as a list is
    one, as in lm-eval. `spans`: a right answer may be a list of spans, which a solved example shows joined by this."""

    prompt: str
    target: str | int | list[str] | None
    choices: str | list[str] | None
    letters: bool
    literal_lists: bool
    spans: str | None = None


@dataclass(frozen=True)
class Filled:
    """A row's prompt without shots, its choices as they are scored, and its right answers: their numbers, or texts. `answers`
    are the texts again, or the spans of which one consists."""

    prompt: str
    choices: tuple[str, ...]
    golds: tuple[int, ...]
    targets: tuple[str, ...]
    answers: tuple[str | tuple[str, ...], ...] = ()

    @property
    def answer(self) -> str:
        """The right answer, of several the first, as a solved example shows it."""
        return self.choices[self.golds[0]] if self.golds else self.targets[0]


def filled(templates: Templates, row: Mapping[str, Any], where: str) -> Filled:
    """What the templates make of a row, which stands at `where`. Raises UserError for whatever is missing or wrong in it."""
    choices: tuple[str, ...] = ()
    values = row
    if templates.choices is not None:
        choices = _choices(templates.choices, row, where)
        if templates.letters:
            if LISTED in row:
                raise UserError(
                    f"the row has a field `{LISTED}`, which is the list of choices", where=where, remedy="rename it"
                )
            lines = (f" {letter}. {choice}" for letter, choice in zip(ALPHABET, choices, strict=False))
            values = {**row, LISTED: "\n".join(lines)}
    prompt = text_of("prompt", templates.prompt, values, where)
    if templates.choices is None:
        answers = _targets(templates, values, where)
        joint = templates.spans or ""
        return Filled(prompt, (), (), tuple(a if isinstance(a, str) else joint.join(a) for a in answers), answers)
    if templates.literal_lists and prompt.isdecimal():
        what = "doc_to_text gives a number: a task whose prompts are its choices is not translated"
        raise UserError(what, where=where, remedy="write it as a task of Lehr's")
    golds = _golds(templates, choices, values, where)
    return Filled(prompt, tuple(ALPHABET[: len(choices)]) if templates.letters else choices, golds, ())


def value_of(key: str, said: str, row: Mapping[str, Any], where: str) -> Any:
    """The field that `said` names, or the text that it writes as a template."""
    if said in row:
        return row[said]
    if key != "description" and said.isidentifier():  # a template of one word alone is a field that this row lacks
        fields = ", ".join(row)
        raise UserError(
            f"{key}: no field `{said}` in this row; it has {fields[:200]}", where=where, remedy="mend the row or the key"
        )
    try:
        return compiled(said, strict=True).text(row)
    except UserError as error:
        raise UserError(f"{key}: {error.what}", where=where, remedy=error.remedy) from None


def text_of(key: str, said: str, row: Mapping[str, Any], where: str) -> str:
    """The same, which has to be a text. Raises UserError."""
    value = value_of(key, said, row, where)
    if not isinstance(value, str):
        raise UserError(f"{key}: it is {_kind(value)}, not a text", where=where, remedy="mend the row, or write a template")
    return value


def _choices(said: str | list[str], row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if isinstance(said, list):
        found: Any = [text_of(f"choices.{n}", one, row, where) if "{" in one else one for n, one in enumerate(said)]
    else:
        found = value_of("choices", said, row, where)
        found = _listed(found) if isinstance(found, str) else found
    good = isinstance(found, list | tuple) and all(isinstance(choice, str) and choice for choice in found)
    if not good or not 2 <= len(found) <= len(ALPHABET):
        what = f"choices: they are {_kind(found)}, not 2 to {len(ALPHABET)} texts, none of them empty"
        raise UserError(what, where=where, remedy="mend the row, or name a field or template that gives a list of texts")
    return tuple(found)


def _listed(text: str) -> Any:
    """A list that a template has written, as JSON or as Python writes it; the text itself if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return text


def _raw_target(templates: Templates, row: Mapping[str, Any], where: str) -> tuple[Any, bool]:
    """The target as it stands, and whether a template wrote it."""
    said = templates.target
    if not isinstance(said, str):
        return said, False
    found = value_of("target", said, row, where)
    if said not in row and templates.literal_lists and isinstance(found, str) and found[:1] == "[" and found[-1:] == "]":
        found = listed if isinstance(listed := _listed(found), list) else found
    return found, said not in row


def _golds(templates: Templates, choices: tuple[str, ...], row: Mapping[str, Any], where: str) -> tuple[int, ...]:
    found, written = _raw_target(templates, row, where)
    golds = [_gold(one, written, choices, where) for one in (found if isinstance(found, list) else [found])]
    if not golds:
        raise UserError("target: it is empty", where=where, remedy="name the right choice, or remove the row")
    return tuple(golds)


def _gold(one: Any, written: bool, choices: tuple[str, ...], where: str) -> int:
    number: Any = one
    if isinstance(one, str) and not (written and one.strip().isdecimal()) and one in choices:
        return choices.index(one)
    if isinstance(one, str) and len(one.strip()) == 1 and one.strip() in ALPHABET[: len(choices)]:
        return ALPHABET.index(one.strip())
    if isinstance(one, str) and one.strip().isdecimal():
        number = int(one)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(choices):
        shown = f"{one!r}" if len(f"{one!r}") <= 60 else f"{one!r:.60}..."
        what = f"target: {shown} is none of the {len(choices)} choices"
        raise UserError(what, where=where, remedy="give the right one's number from 0, its letter, or its text")
    return number


def _targets(templates: Templates, row: Mapping[str, Any], where: str) -> tuple[str | tuple[str, ...], ...]:
    """The right answers: each a text, or where the task takes them a tuple of spans."""
    if templates.target is None:
        return ()
    found, _ = _raw_target(templates, row, where)
    several = (found or [""]) if isinstance(found, list) else [found]
    if templates.spans is None and any(isinstance(one, list) for one in several):
        what = "target: a right answer of several spans, which f1 and exact_match judge with `normalise: drop` alone"
        raise UserError(what, where=where, remedy="set it, or give each right answer as one text")
    return tuple(
        tuple(_answer(span, found, where) for span in one or [""]) if isinstance(one, list) else _answer(one, found, where)
        for one in several
    )


def _answer(one: Any, found: Any, where: str) -> str:
    """A right answer or a span of it, which stands in the target `found`, as a text. Raises UserError."""
    text = str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one
    if not isinstance(text, str) or not text.strip():
        what = "it is empty" if isinstance(text, str) else f"it is {_kind(found)}, not a text or a list of texts"
        raise UserError(f"target: {what}", where=where, remedy="give the right answer, or remove the row")
    return text


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", dict: "an object", type(None): "null"}
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return names.get(type(value), type(value).__name__)
