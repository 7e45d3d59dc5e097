"""How far one score is from another: paired where both are of the same examples, with interval, test and detectable effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lehr.evals.estimate import ratio
from lehr.evals.items import ItemScores
from lehr.evals.parts import difference
from lehr.evals.significance import FEW, LEVEL, detectable, holm, most_differing, sign_test, t_p_value, t_quantile

How = Literal["paired", "independent", "over seeds"]
Correction = Literal["holm", "none"]
SMALL = 10  # independent examples, below which an interval is called rough


@dataclass(frozen=True)
class Difference:
    """To the first score, with its 95 % confidence interval (None: nothing is known of the error). `how`: from the same
    examples, from two samples, or from seeds; `n` counts what the interval is over. `p_value` is two-sided, `adjusted` for all
    differences that stand in the same table; `detectable` is the minimal detectable effect at 5 % and 80 % power; `note` says
    why an interval is missing or rough. `stderr` (0 where no example differs) and `freedom` are what the interval is of."""

    value: float
    low: float | None
    high: float | None
    how: How
    n: int
    p_value: float | None = None
    adjusted: float | None = None
    detectable: float | None = None
    note: str = ""
    stderr: float | None = None
    freedom: int = 1

    @property
    def is_clear(self) -> bool:
        """Whether it is significant at 5 %, adjusted."""
        return self.adjusted is not None and self.adjusted < LEVEL


def paired(a: ItemScores | None, b: ItemScores | None, is_share: bool) -> Difference | None:
    """Of `b` to `a`, over the examples' own differences, as a score is over its examples (Miller 2024, "Adding error bars to
    evals"). None where the two did not answer the same ones, or it is not known. `is_share`: of a metric between 0 and 1."""
    if a is None or b is None or not _same_examples(a, b):
        return None
    apart = [y - x for x, y in zip(a.values, b.values, strict=True)]
    if any(apart) and (a.exp or a.over):  # a perplexity, a mean of several scores: no sum of the examples' own
        value, stderr, n, clusters = difference(a.items, b.items)
        return _noted(interval(value, stderr, clusters - 1, "paired", n), clusters)
    value, stderr, n, clusters = ratio(apart, a.weights or [1.0] * len(apart), a.clusters)
    if not any(apart):
        return Difference(0.0, None, None, "paired", n, note=_equal(clusters, is_share), stderr=0.0)
    found = interval(value, stderr, clusters - 1, "paired", n)
    differ = sum(map(bool, apart))
    if a.weights or a.clusters or differ >= FEW or not set(apart) <= {-1.0, 0.0, 1.0}:
        return _noted(found, clusters)
    note = f"only {differ} of {n:,} differ: p is the sign test's, the interval rough"
    return replace(found, p_value=sign_test(apart), note=note)


def independent(values: tuple[float, float], errors: tuple[float | None, float | None], n: int) -> Difference:
    """Of the second value to the first, of two samples, the smaller of `n`: at least as wide as what the same examples would
    give, as a rule."""
    known = None not in errors
    stderr = math.hypot(*(error or 0.0 for error in errors)) if known else None
    found = interval(values[1] - values[0], stderr, n - 1, "independent", n)
    return replace(found, note=f"of only {n}: a rough interval") if known and n < SMALL else found


def interval(value: float, stderr: float | None, freedom: int, how: How, n: int) -> Difference:
    """Student's interval and test. None of both where the error is not known, or is 0, which no difference is known to."""
    if not stderr:
        return Difference(value, None, None, how, n)
    half = t_quantile(1 - LEVEL / 2, freedom) * stderr
    p = t_p_value(value / stderr, freedom)
    found = detectable(stderr, freedom)
    return Difference(value, value - half, value + half, how, n, p, detectable=found, stderr=stderr, freedom=freedom)


def adjusted(apart: Sequence[Difference | None], correction: Correction = "holm") -> list[Difference | None]:
    """One family of differences, with its p-values adjusted."""
    p_values = [d.p_value if d else None for d in apart]
    found = holm(p_values) if correction == "holm" else p_values
    return [replace(d, adjusted=p) if d else None for d, p in zip(apart, found, strict=True)]


def mean_of_items(several: Sequence[ItemScores]) -> ItemScores | None:
    """As if one model had given the mean of what several gave on each example, whose score is the mean of theirs. None where
    they did not answer the same ones, or where a score is no sum of what its examples gave."""
    first = several[0] if several else None
    if first is None or first.exp or not all(_same_examples(first, other) for other in several[1:]):
        return None
    means = [math.fsum(values) / len(several) for values in zip(*(one.values for one in several), strict=True)]
    return first.model_copy(update={"values": means}) if len(several) > 1 else first


def _same_examples(a: ItemScores, b: ItemScores) -> bool:
    one, other = ((i.examples, i.weights, len(i.values), i.groups, i.names) for i in (a, b))
    return one == other


def _noted(found: Difference, clusters: int) -> Difference:
    return replace(found, note=f"of only {clusters}: a rough interval" if clusters < SMALL else "")


def _equal(clusters: int, is_share: bool) -> str:
    """What it says where no example differs: not that the models are equal."""
    if is_share and clusters > 1:
        return f"none of {clusters:,} differs: up to {100 * most_differing(clusters):.2g} % could (95 %)"
    return f"none of {clusters:,} differs"
