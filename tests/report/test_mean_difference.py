"""The difference of two models' means over tasks, by hand."""

from __future__ import annotations

import statistics

import pytest

from lehr.analysis.differences import mean_difference
from lehr.evals.differences import Difference


def _differences(a: list[float], b: list[float], c: list[float], d: list[float]) -> Difference:
    """Of the means of two tasks, from what each example gave: a and b of one model, c and d of the other."""

    def one(before: list[float], after: list[float]) -> Difference:
        apart = [y - x for x, y in zip(before, after, strict=True)]
        n, value = len(apart), statistics.fmean(apart)
        stderr = statistics.stdev(apart) / n**0.5
        return Difference(value, None, None, "paired", n, stderr=stderr, freedom=n - 1)

    found = mean_difference([one(a, c), one(b, d)])
    assert found is not None
    return found


def test_the_difference_of_means_has_the_errors_of_both_tasks() -> None:
    found = _differences([0.0, 1, 0, 1, 1], [1.0, 0, 0], [1.0, 1, 1, 1, 0], [1.0, 1, 0])
    # Differences 1 0 1 0 -1 (mean 0.2, variance 0.7) and 0 1 0 (1/3, 1/3): squared errors 0.14 of 4 degrees and 1/9 of 2.
    stderr, freedom = (0.14 + 1 / 9) ** 0.5 / 2, int((0.14 + 1 / 9) ** 2 / (0.14**2 / 4 + (1 / 9) ** 2 / 2))
    assert freedom == 5 and found.freedom == 5 and (found.value, found.n) == (pytest.approx((0.2 + 1 / 3) / 2), 8)
    assert found.stderr == pytest.approx(stderr) and found.how == "paired"
    assert found.low == pytest.approx(found.value - 2.570582 * stderr) and found.high is not None
    assert mean_difference([found, None]) is None
    known = mean_difference([found, Difference(0.5, None, None, "independent", 9)])
    assert known is not None and (known.low, known.how, known.p_value) == (None, "independent", None)
