"""Tests and power of a difference: Student's t, the minimal detectable effect, an exact sign test, Holm's correction.

Written out, since neither PyTorch nor NumPy has Student's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL, POWER = 0.05, 0.8  # two-sided false positive rate; how often a true effect of the detectable size is found
FEW = 25  # examples that differ, below which the normal approximation of McNemar's test is not used
_NARROW = 1e-15


def t_p_value(t: float, freedom: int) -> float:
    """Two-sided p-value of Student's `t`. Less than one degree of freedom counts as one."""
    v = max(freedom, 1)
    return _incomplete_beta(v / 2, 0.5, v / (v + t * t))


def t_quantile(share: float, freedom: int) -> float:
    """The value that a share of Student's distribution lies below, for 0.5 <= share < 1."""
    wished = 2 * (1 - share)
    low, high = 0.0, 1.0
    while t_p_value(high, freedom) > wished:
        high *= 2
    while high - low > _NARROW * high and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_p_value(middle, freedom) > wished else (low, middle)
    return high


def detectable(stderr: float, freedom: int, level: float = LEVEL, power: float = POWER) -> float:
    """The minimal detectable effect: a true difference of this size is called significant at `level` (two-sided) with
    probability `power`. (z of 1 - level/2 + z of power) x standard error (Miller 2024, "Adding error bars to evals"), with
    Student's t of the same degrees of freedom in place of the normal's z (Bloom 1995, "Minimum Detectable Effects").
    The power then is within 1 % of it from 5 degrees on."""
    return (t_quantile(1 - level / 2, freedom) + t_quantile(power, freedom)) * stderr


def sign_test(values: Sequence[float]) -> float:
    """Two-sided exact p-value of differences of which as many should be positive as negative (of right and wrong answers:
    McNemar's exact test). 1 where all are 0."""
    above, below = sum(v > 0 for v in values), sum(v < 0 for v in values)
    n = above + below
    tail: float = sum(math.comb(n, k) for k in range(min(above, below) + 1)) / 2**n
    return min(1.0, 2 * tail)


def most_differing(n: int, level: float = LEVEL) -> float:
    """Of `n` independent examples none differs: the largest share of differing ones that this leaves possible at `level`. (The
    exact one-sided bound of a binomial, 3/n in short.)"""
    return 1.0 - math.pow(level, 1 / n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) adjusted p-values: those below 0.05 hold together, with a chance of 5 % at most that any of them is by
    chance, however they depend on one another. None stays None and is not counted."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    so_far = 0.0
    for rank, (p, place) in enumerate(order):
        so_far = max(so_far, min(1.0, p * (len(order) - rank)))
        adjusted[place] = so_far
    return adjusted


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function (DLMF 8.17.22, a continued fraction evaluated by Lentz's method)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly: the other side
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            c, d = 1 + term / c, 1 / (1 + term * d)
            found *= c * d
        if abs(c * d - 1) < _NARROW:
            break
    return front * found
