"""Queries as data: what a panel asks of the metrics. Each can be written as PromQL, and evaluated without a Prometheus.

A query is made of `Metric` objects, so a metric that is renamed or removed takes its panels along, or fails at import. Wrong
use fails there too (Bug): a counter outside of a rate, a label that a metric does not have, operands that do not match.

A scrape adds labels of its own (instance, pod ...), and a run that goes on in another pod has two series for a while. `labels`
of an aggregation are therefore exactly those it names, and only such queries can be divided or drawn; `now` is the shortest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lehr.monitoring.metrics import Metric
from lehr.runtime.errors import Bug

RATE = "$__rate_interval"  # Grafana: four scrapes, or a step of the graph if that is longer
RANGE = "$__range"  # Grafana: all the time that is looked at
Where = Mapping[str, str | tuple[str, ...]]  # label -> its value, or several of which it has one
_WORD = re.compile(r"[\w-]*")


def _several(wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted


class Query:
    """An expression over metrics. `labels` are those of its result; `closed`: it has no others, whatever a scrape adds."""

    closed = False

    @property
    def labels(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def parts(self) -> tuple[Query, ...]:
        """The queries that it is made of."""
        return ()

    @property
    def metrics(self) -> frozenset[Metric]:
        """All metrics without which it has no result, or another one."""
        return frozenset().union(*(part.metrics for part in self.parts))

    def promql(self, variables: Iterable[str] = ()) -> str:
        """In Prometheus' language. Every metric is limited to the values of those board `variables` that it has as labels."""
        raise NotImplementedError


@dataclass(frozen=True)
class Selection(Query):
    """The series of a metric; `where` limits them. `suffix` is that of a histogram's series."""

    metric: Metric
    where: Where = field(default_factory=dict)
    suffix: Literal["", "_bucket", "_sum", "_count"] = ""

    def __post_init__(self) -> None:
        if unknown := set(self.where) - set(self.metric.labels):
            raise Bug(f"{self.metric.name} has no label {', '.join(sorted(unknown))}")
        if odd := [value for wanted in self.where.values() for value in _several(wanted) if not _WORD.fullmatch(value)]:
            raise Bug(f"{self.metric.name}: {odd} would have to be escaped in PromQL")
        if (self.metric.kind == "histogram") != bool(self.suffix):
            raise Bug(f"{self.metric.name} is a {self.metric.kind}: ask with the form for that kind")

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.metric.labels, *(("le",) if self.suffix == "_bucket" else ()))

    @property
    def metrics(self) -> frozenset[Metric]:
        return frozenset({self.metric})

    @property
    def name(self) -> str:
        """Of the series."""
        return self.metric.name + self.suffix

    def promql(self, variables: Iterable[str] = ()) -> str:
        matchers = [f'{name}=~"${name}"' for name in variables if name in (*self.metric.labels, "cluster")]
        for name, value in self.where.items():
            matchers.append(f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"')
        return f"{self.name}{{{','.join(matchers)}}}" if matchers else self.name


@dataclass(frozen=True)
class Last(Query):
    """The last values of a gauge, with whatever labels a scrape has added."""

    metric: Metric
    where: Where = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric.kind != "gauge":
            raise Bug(f"{self.metric.name} is a {self.metric.kind}: its value says nothing without its growth")
        self.of.promql()  # raises Bug for unknown labels

    @property
    def of(self) -> Selection:
        """What it reads."""
        return Selection(self.metric, self.where)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.metric.labels

    @property
    def metrics(self) -> frozenset[Metric]:
        return self.of.metrics

    def promql(self, variables: Iterable[str] = ()) -> str:
        return self.of.promql(variables)


GROWTH = ("rate", "increase")
OVER_TIME = ("last", "max", "min", "avg")


@dataclass(frozen=True)
class Window(Query):
    """A function of what a series was in the last `window`: growth of counters, `*_over_time` of gauges. Made by the functions
    below."""

    function: Literal["rate", "increase", "last", "max", "min", "avg"]
    of: Selection
    window: str

    def __post_init__(self) -> None:
        grows = self.of.metric.kind != "gauge"
        allowed = (*GROWTH, "last") if grows else OVER_TIME
        if self.function not in allowed:
            raise Bug(f"{self.function} of {self.of.name}, which is a {self.of.metric.kind}")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.of.labels

    @property
    def metrics(self) -> frozenset[Metric]:
        return self.of.metrics

    def promql(self, variables: Iterable[str] = ()) -> str:
        name = self.function if self.function in GROWTH else f"{self.function}_over_time"
        return f"{name}({self.of.promql(variables)}[{self.window}])"


@dataclass(frozen=True)
class Aggregate(Query):
    """One value for each combination of the labels `by`."""

    function: Literal["sum", "max", "min", "avg", "count"]
    of: Query
    by: tuple[str, ...] = ()
    closed = True

    def __post_init__(self) -> None:
        if unknown := set(self.by) - set(self.of.labels):
            raise Bug(f"no label {', '.join(sorted(unknown))} to aggregate by in {self.of.promql()}")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.by

    @property
    def parts(self) -> tuple[Query, ...]:
        return (self.of,)

    def promql(self, variables: Iterable[str] = ()) -> str:
        by = f" by ({', '.join(self.by)}) " if self.by else ""
        return f"{self.function}{by}({self.of.promql(variables)})"


@dataclass(frozen=True)
class Quantile(Query):
    """The `q` quantile of a histogram's observations in the last `window`, interpolated within a bucket."""

    q: float
    metric: Metric
    by: tuple[str, ...] = ()
    window: str = RATE
    where: Where = field(default_factory=dict)
    closed = True

    @property
    def of(self) -> Aggregate:
        """The growth of its buckets."""
        grown = Window("rate", Selection(self.metric, self.where, "_bucket"), self.window)
        return Aggregate("sum", grown, ("le", *self.by))

    def __post_init__(self) -> None:
        self.of.promql()  # raises Bug for what is no histogram, and for unknown labels

    @property
    def labels(self) -> tuple[str, ...]:
        return self.by

    @property
    def parts(self) -> tuple[Query, ...]:
        return (self.of,)

    def promql(self, variables: Iterable[str] = ()) -> str:
        return f"histogram_quantile({self.q:g}, {self.of.promql(variables)})"


@dataclass(frozen=True)
class Binary(Query):
    """Arithmetic between queries, or with a number. The right side's labels are the left side's, or some of them: then each of
    its values meets all left ones that have it. `>` and `<` keep the left values for which they are true."""

    operator: Literal["+", "-", "*", "/", ">", "<"]
    left: Query
    right: Query | float
    closed = True

    def __post_init__(self) -> None:
        if not all(part.closed for part in self.parts):
            raise Bug(f"aggregate both sides of {self.operator} first: scrapes add labels, and then nothing matches")
        if not isinstance(self.right, Query):
            return
        if extra := set(self.right.labels) - set(self.left.labels):
            raise Bug(f"{self.operator}: the left side has no label {', '.join(sorted(extra))}")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.left.labels

    @property
    def parts(self) -> tuple[Query, ...]:
        return (self.left, self.right) if isinstance(self.right, Query) else (self.left,)

    def promql(self, variables: Iterable[str] = ()) -> str:
        variables = tuple(variables)
        left = _operand(self.left, variables)
        if not isinstance(self.right, Query):
            return f"{left} {self.operator} {self.right:.12g}"
        match = ""
        if set(self.right.labels) != set(self.left.labels):
            match = f"on ({', '.join(self.right.labels)}) group_left () "
        return f"{left} {self.operator} {match}{_operand(self.right, variables)}"


def _operand(query: Query, variables: tuple[str, ...]) -> str:
    text = query.promql(variables)
    return f"({text})" if isinstance(query, Binary | Age) else text


@dataclass(frozen=True)
class Age(Query):
    """Seconds since a gauge's Unix time."""

    of: Query
    closed = True

    def __post_init__(self) -> None:
        if not self.of.closed or any(not m.name.endswith("timestamp_seconds") for m in self.of.metrics):
            raise Bug(f"no time to take the age of: {self.of.promql()}")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.of.labels

    @property
    def parts(self) -> tuple[Query, ...]:
        return (self.of,)

    def promql(self, variables: Iterable[str] = ()) -> str:
        return f"time() - {self.of.promql(variables)}"
