"""A number with its standard error and sample size."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Estimate(NamedTuple):
    """`n` counts examples, and `clusters` the independent groups that they come from, over which `stderr` is taken. It is None
    if there is only one cluster, or if the measure has no standard error."""

    value: float
    stderr: float | None
    n: int
    clusters: int


def mean(values: Sequence[float], clusters: Sequence[Hashable] = ()) -> Estimate:
    """The mean, with the standard error of `ratio` with all denominators 1 (0/1 values without clusters: p(1-p)/(n-1))."""
    return ratio(values, [1.0] * len(values), clusters)


def ratio(numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable] = ()) -> Estimate:
    """Sum over sum, with the delta method's standard error (Cochran, Sampling Techniques, 2.11).

    `clusters` gives for each example the group with which it was drawn (chunks of one document, answers to one prompt):
    examples of a cluster are not independent, so their residuals are summed before they are squared (Liang and Zeger 1986;
    Miller 2024, "Adding error bars to evals"), and the sample size is the number of clusters. Without them each
    example is its own.
    """
    # fsum throughout: `sum` of floats has another result from Python 3.12 on.
    total = math.fsum(denominators)
    value = math.fsum(numerators) / total
    residuals = [a - value * b for a, b in zip(numerators, denominators, strict=True)]
    if clusters:
        residuals = _summed(residuals, clusters)
    n = len(residuals)
    squares = math.fsum(r * r for r in residuals)
    stderr = math.sqrt(squares * n / (n - 1)) / total if n > 1 else None
    return Estimate(value, stderr, len(numerators), n)


def _summed(values: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
    return list(sums.values())
