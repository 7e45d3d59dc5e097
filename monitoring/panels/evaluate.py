"""Evaluates queries on samples in memory, as Prometheus does: `lehr watch` shows the boards' panels without one.

The functions follow Prometheus' documentation and its engine (rate and increase extrapolate to the ends of their window, a
quantile is interpolated within its bucket); a test gives both the same samples. A window is open at its left end, as in
Prometheus 3; version 2 also counts a sample that lies on it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from lehr.monitoring.panels.history import STALE, History
from lehr.monitoring.panels.query import (
    GROWTH,
    RANGE,
    RATE,
    Age,
    Aggregate,
    Binary,
    Last,
    Quantile,
    Query,
    Selection,
    Window,
)

LOOK_BACK_SECONDS = 300.0  # for which a value is the last one
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Point = tuple[float, float]


@dataclass(frozen=True)
class Moment:
    """When a query is asked, in Unix seconds; the seconds that RATE and RANGE stand for; and the board's variables: a regular
    expression for each label, "" for all values."""

    at: float
    rate_seconds: float = 60.0
    range_seconds: float = 3600.0
    scope: Mapping[str, str] = field(default_factory=dict)

    def seconds(self, window: str) -> float:
        """The length of a window."""
        if window in (RATE, RANGE):
            return self.rate_seconds if window == RATE else self.range_seconds
        return float(window[:-1]) * _UNITS[window[-1]]


@dataclass(frozen=True)
class Value:
    """One line of a result."""

    labels: dict[str, str]
    value: float


@singledispatch
def evaluate(query: Query, samples: History, moment: Moment) -> list[Value]:
    """The query's result at `moment`: a value for each combination of its labels, in no particular order."""
    raise TypeError(f"no way to evaluate a {type(query).__name__}")


def _chosen(of: Selection, samples: History, moment: Moment, seconds: float) -> list[tuple[dict[str, str], list[Point]]]:
    """The series that `of` selects and their points in the last `seconds`, if there are any; the marks of their ends too."""
    found = []
    for labels, points in samples.named(of.name):
        if _matches(of, labels, moment.scope):
            recent = [point for point in points if moment.at - seconds < point[0] <= moment.at]
            if recent:
                found.append((labels, recent))
    return found


def _matches(of: Selection, labels: Mapping[str, str], scope: Mapping[str, str]) -> bool:
    for name, wanted in of.where.items():
        if labels.get(name, "") not in ((wanted,) if isinstance(wanted, str) else wanted):
            return False
    asked = {name: pattern for name, pattern in scope.items() if pattern and name in (*of.metric.labels, "cluster")}
    return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in asked.items())


@evaluate.register
def _last(query: Last, samples: History, moment: Moment) -> list[Value]:
    found = _chosen(query.of, samples, moment, LOOK_BACK_SECONDS)
    return [Value(labels, points[-1][1]) for labels, points in found if points[-1][1] is not STALE]


@evaluate.register
def _window(query: Window, samples: History, moment: Moment) -> list[Value]:
    seconds = moment.seconds(query.window)
    made = []
    for labels, marked in _chosen(query.of, samples, moment, seconds):
        points = [point for point in marked if point[1] is not STALE]
        if not points:
            continue
        if query.function not in GROWTH:
            made.append(Value(labels, _OVER_TIME[query.function]([value for _, value in points])))
        elif len(points) > 1:
            grown = _grown(points, moment.at - seconds, moment.at)
            made.append(Value(labels, grown / seconds if query.function == "rate" else grown))
    return made


def _extreme(values: list[float], better: Callable[[float, float], bool]) -> float:
    """The best that is a number; NaN if none is."""
    best = values[0]
    for value in values[1:]:
        if math.isnan(best) or better(value, best):
            best = value
    return best


def _max(values: list[float]) -> float:
    return _extreme(values, lambda a, b: a > b)


def _min(values: list[float]) -> float:
    return _extreme(values, lambda a, b: a < b)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


_OVER_TIME: dict[str, Callable[[list[float]], float]] = {
    "last": lambda values: values[-1],
    "max": _max,
    "min": _min,
    "avg": _mean,
}
_OVER_SERIES: dict[str, Callable[[list[float]], float]] = {**_OVER_TIME, "sum": sum, "count": lambda values: float(len(values))}


def _grown(points: list[Point], start: float, end: float) -> float:
    """How far a counter came between `start` and `end`. A value below the one before is a restart from 0. What lies beyond the
    first and the last sample is extrapolated: to the window's end if that is near, else by half a scrape, never below 0."""
    first, last = points[0], points[-1]
    grown = last[1] - first[1] + sum(a[1] for a, b in itertools.pairwise(points) if b[1] < a[1])
    sampled = last[0] - first[0]
    between = sampled / (len(points) - 1)
    before, after = first[0] - start, end - last[0]
    if grown > 0 and first[1] >= 0:
        before = min(before, sampled * first[1] / grown)  # it began at 0
    reach = sampled + sum(gap if gap < 1.1 * between else between / 2 for gap in (before, after))
    return grown * reach / sampled


@evaluate.register
def _aggregate(query: Aggregate, samples: History, moment: Moment) -> list[Value]:
    groups: dict[tuple[str, ...], list[float]] = {}
    for one in evaluate(query.of, samples, moment):
        groups.setdefault(tuple(one.labels.get(name, "") for name in query.by), []).append(one.value)
    function = _OVER_SERIES[query.function]
    return [Value(dict(zip(query.by, key, strict=True)), function(values)) for key, values in groups.items()]


@evaluate.register
def _quantile(query: Quantile, samples: History, moment: Moment) -> list[Value]:
    groups: dict[tuple[str, ...], list[Point]] = {}
    for one in evaluate(query.of, samples, moment):
        groups.setdefault(tuple(one.labels[name] for name in query.by), []).append((float(one.labels["le"]), one.value))
    return [Value(dict(zip(query.by, key, strict=True)), _at(query.q, sorted(found))) for key, found in groups.items()]


def _at(q: float, buckets: list[Point]) -> float:
    """The `q` quantile of observations in buckets (upper bound, cumulative count)."""
    observations = buckets[-1][1]
    if len(buckets) < 2 or math.isfinite(buckets[-1][0]) or observations == 0:
        return math.nan
    rank = q * observations
    place = next((i for i, (_, count) in enumerate(buckets[:-1]) if count >= rank), len(buckets) - 1)
    if place == len(buckets) - 1:
        return buckets[-2][0]  # beyond the last bound: no more is known
    if place == 0 and buckets[0][0] <= 0:
        return buckets[0][0]
    low, below = buckets[place - 1] if place else (0.0, 0.0)
    bound, count = buckets[place]
    return low + (bound - low) * (rank - below) / (count - below)


@evaluate.register
def _age(query: Age, samples: History, moment: Moment) -> list[Value]:
    return [Value(one.labels, moment.at - one.value) for one in evaluate(query.of, samples, moment)]


@evaluate.register
def _binary(query: Binary, samples: History, moment: Moment) -> list[Value]:
    left = evaluate(query.left, samples, moment)
    if isinstance(query.right, Query):
        on = query.right.labels
        others = {tuple(one.labels[name] for name in on): one.value for one in evaluate(query.right, samples, moment)}
        pairs = [(one, others.get(tuple(one.labels[name] for name in on))) for one in left]
    else:
        pairs = [(one, query.right) for one in left]
    if (keep := _COMPARISON.get(query.operator)) is not None:
        return [one for one, other in pairs if other is not None and keep(one.value, other)]
    compute = _ARITHMETIC[query.operator]
    return [Value(one.labels, compute(one.value, other)) for one, other in pairs if other is not None]


def _divided(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


_COMPARISON: dict[str, Callable[[float, float], bool]] = {">": lambda a, b: a > b, "<": lambda a, b: a < b}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
}
