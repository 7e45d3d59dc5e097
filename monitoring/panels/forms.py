"""The forms in which panels ask: short names for the queries of query.py."""

from __future__ import annotations

from typing import Literal

from lehr.monitoring.metrics import Metric
from lehr.monitoring.panels.query import RANGE, RATE, Age, Aggregate, Binary, Last, Query, Selection, Where, Window


def now(metric: Metric, /, **where: str | tuple[str, ...]) -> Query:
    """A gauge's last values, one for each combination of the metric's own labels."""
    return Aggregate("max", Last(metric, where), metric.labels)


def recent(metric: Metric, /, window: str = RANGE, **where: str | tuple[str, ...]) -> Query:
    """As `now`, but of series too that ended within `window`: those of stages and runs that are over."""
    return Aggregate("max", Window("last", Selection(metric, where), window), metric.labels)


def biggest(metric: Metric, /, window: str = RANGE, **where: str | tuple[str, ...]) -> Query:
    """A gauge's highest values within `window`."""
    return Aggregate("max", Window("max", Selection(metric, where), window), metric.labels)


def total(query: Query, *by: str) -> Query:
    """The sum over all series that agree in `by`."""
    return Aggregate("sum", query, by)


def highest(query: Query, *by: str) -> Query:
    """The highest of all series that agree in `by`."""
    return Aggregate("max", query, by)


def lowest(query: Query, *by: str) -> Query:
    """The lowest of all series that agree in `by`."""
    return Aggregate("min", query, by)


def mean(query: Query, *by: str) -> Query:
    """The mean over all series that agree in `by`."""
    return Aggregate("avg", query, by)


def number(query: Query, *by: str) -> Query:
    """How many series agree in `by`."""
    return Aggregate("count", query, by)


def rate(counter: Metric, *by: str, where: Where | None = None, window: str = RATE) -> Query:
    """Growth per second of a counter, summed over all series that agree in `by`."""
    return Aggregate("sum", Window("rate", Selection(counter, where or {}), window), by)


def increase(counter: Metric, *by: str, where: Where | None = None, window: str = RANGE) -> Query:
    """Growth of a counter within `window`, summed over all series that agree in `by`."""
    return Aggregate("sum", Window("increase", Selection(counter, where or {}), window), by)


def counted(counter: Metric, *by: str, where: Where | None = None, window: str = RANGE) -> Query:
    """What the processes that were seen within `window` have counted since they began, summed over all series that agree in
    `by`. `increase` knows nothing of what a process had counted by its first scrape: all of a short stage, the start-up of a
    long one, an attempt that was killed. Of a process that began before `window` this also has what came earlier."""
    return Aggregate("sum", Window("last", Selection(counter, where or {}), window), by)


def observed(histogram: Metric, *by: str, suffix: Literal["_sum", "_count"] = "_sum", window: str = RANGE) -> Query:
    """What a histogram has observed within `window`: the sum of it, or the count of observations."""
    return Aggregate("sum", Window("increase", Selection(histogram, {}, suffix), window), by)


def ratio(above: Query, below: Query) -> Query:
    """`above` divided by `below`."""
    return Binary("/", above, below)


def times(query: Query, by: Query | float) -> Query:
    """Their product."""
    return Binary("*", query, by)


def plus(left: Query, right: Query | float) -> Query:
    """Their sum, where both are."""
    return Binary("+", left, right)


def minus(left: Query, right: Query | float) -> Query:
    """Their difference."""
    return Binary("-", left, right)


def over(query: Query, limit: float) -> Query:
    """Those values that are over `limit`."""
    return Binary(">", query, limit)


def age(timestamp: Metric) -> Query:
    """Seconds since a gauge's Unix time."""
    return Age(now(timestamp))
