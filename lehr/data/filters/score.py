"""A score that something else gives: a field of the document, or a function of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lehr.config.filters.learned import ScoreFilter
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.errors import UserError
from lehr.runtime.plugins import resolve

Scorer = Callable[[Sequence[str]], Sequence[float]]


def make(config: ScoreFilter) -> Filter:
    """Raises UserError if there is no such function."""
    if not config.function:
        return lambda document: _held(config, _field(document.metadata, config.field))
    scorer: Scorer = resolve("scorer", config.function, {})
    return lambda document: _held(config, scored(config.function, scorer, [document.text])[0])


def scored(name: str, scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """The scores of many texts at once. Raises UserError unless the scorer gives one number for each."""
    found = [float(value) for value in scorer(texts)]
    if len(found) != len(texts) or not all(map(math.isfinite, found)):
        what = f"{name} gave {len(found)} scores for {len(texts)} texts, or one that is no number"
        raise UserError(what, remedy="return one finite number for each text")
    return found


def _field(metadata: Mapping[str, Any], field: str) -> float | None:
    """The number at a dotted key, or None where there is no number."""
    value: Any = metadata
    for key in field.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _held(config: ScoreFilter, score: float | None) -> Keep | Drop:
    if score is None:
        return Drop("no score") if config.missing == "drop" else Keep()
    scores = {"score.score": score}
    if config.min_score is not None and score < config.min_score:
        return Drop("low score", scores)
    if config.max_score is not None and score > config.max_score:
        return Drop("high score", scores)
    return Keep(scores)
