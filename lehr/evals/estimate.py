"""A number with its standard error and sample size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Estimate(NamedTuple):
    """`stderr` is 0 where a single example gives none."""

    value: float
    stderr: float
    n: int


def mean(values: Sequence[float]) -> Estimate:
    """The mean, with the standard error from the sample's standard deviation (for 0/1 values: p(1-p)/(n-1))."""
    n = len(values)
    center = math.fsum(values) / n
    if n == 1:
        return Estimate(center, 0.0, n)
    variance = math.fsum((v - center) ** 2 for v in values) / (n - 1)
    return Estimate(center, math.sqrt(variance / n), n)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Sum over sum, with the delta method's standard error over the pairs (Cochran, Sampling Techniques, 2.11)."""
    n, total = len(numerators), math.fsum(denominators)
    value = math.fsum(numerators) / total
    if n == 1:
        return Estimate(value, 0.0, n)
    squares = math.fsum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    return Estimate(value, math.sqrt(squares * n / (n - 1)) / total, n)
