"""Scores against the thresholds of a configuration: a key `min_NAME` or `max_NAME` for the score `KIND.NAME`."""

from __future__ import annotations

import operator
from collections.abc import Mapping

from lehr.config.filters import FilterConfig
from lehr.data.verdict import Drop, Keep


def verdict(config: FilterConfig, found: Mapping[str, float], reasons: Mapping[str, str]) -> Keep | Drop:
    """Drop with the reason of the first of the scores `found` (name -> value) that is outside its thresholds. `reasons`: by
    threshold (`min_words`), or by score where both of its sides have one reason. Scores that are not found are not asked for."""
    scores = {f"{config.kind}.{name}": float(value) for name, value in found.items()}
    for name, value in found.items():
        for side, outside in (("min", operator.lt), ("max", operator.gt)):
            limit = getattr(config, f"{side}_{name}", None)
            if limit is not None and outside(value, limit):
                return Drop(reasons.get(f"{side}_{name}") or reasons[name], scores)
    return Keep(scores)
