"""Questions of reasoning-gym as conversations: `gym:NAME`, with settings as `gym:NAME min_terms=2 max_terms=3`.

A question's split is a hash of its text alone, so no question is in two splits, whatever the settings or the seed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from lehr.data.reasoning import PREFIX, SIZE, dataset
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.splits import Split, split_of
from lehr.runtime.errors import UserError

_TRIES = 500  # one in ten questions is of a held-out split: all of 500 miss it once in 10^23, unless there are few questions


@lru_cache(maxsize=256)
def parsed(family: str) -> tuple[str, dict[str, Any]]:
    """The generator's name and its settings. Raises UserError for a setting that is not NAME=VALUE; values are JSON,
    or texts."""
    name, *parts = family.removeprefix(PREFIX).split()
    settings: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UserError(f"{family!r}: {part!r} is no setting", remedy=f"write {PREFIX}NAME setting=value setting=value")
        settings[key] = _value(value)
    return name, settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def check(family: str) -> None:
    """Raises UserError: no such generator, settings that it does not take, or a package that is not installed."""
    if not family.removeprefix(PREFIX).strip():
        raise UserError(f"{family!r} names no generator", remedy=f"write {PREFIX}chain_sum, say")
    dataset(*parsed(family))


def question(family: str, split: Split, index: int, seed: int) -> tuple[str, str, dict[str, Any]]:
    """A question, its answer, and the arguments of its verifier: a pure function of the arguments. Raises UserError as
    `check`, and if the generator has no question in the split."""
    name, settings = parsed(family)
    questions = dataset(name, settings)
    draw = Draw(seed, "gym", family, split, index)
    for _ in range(_TRIES):
        place = draw.below(SIZE)
        entry = questions[place]
        text = str(entry["question"])
        if split_of(key(text)) == split:
            return text, str(entry["answer"]), {"name": name, "settings": settings, "index": place}
    raise UserError(f"{family!r} has no question in the split {split!r}", remedy="give it settings that allow more questions")


def key(text: str) -> str:
    """What a question is known by."""
    return f"gym:{text}"
