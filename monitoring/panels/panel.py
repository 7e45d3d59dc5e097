"""What a panel and a board are. Nothing here knows Grafana."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Literal

from lehr.monitoring.metrics import Metric
from lehr.monitoring.panels.query import Query
from lehr.runtime.errors import Bug

COLUMNS = 24
Kind = Literal["lines", "stat", "bars", "table", "states"]
# In words: the renderers choose colours that can be told apart in light and in dark.
Level = Literal["good", "watch", "bad", "plain"]
# As Grafana names units; "" is a number without one. `lehr watch` shows the same.
Unit = Literal[
    "",
    "short",  # a number with k, M, G
    "percentunit",  # a share in [0, 1], shown in per cent
    "s",
    "bytes",
    "Bps",
    "joule",
    "watt",
    "kwatth",
    "celsius",
    "tokens/s",
    "steps/s",
    "requests/s",
    "documents/s",
    "flops",
    "nats",
    "kg",
    "litre",
    "GPU-hours",
    "node-hours",
    "/s",
]


def _check_names(text: str, query: Query) -> None:
    if unknown := {name for _, name, _, _ in Formatter().parse(text) if name} - set(query.labels):
        raise Bug(f"{text!r} names {', '.join(unknown)}, which {query.promql()} does not have")


@dataclass(frozen=True)
class Series:
    """One query of a panel. `legend` names its lines, with the query's labels in braces: "{stage}". `unit`: that of a table's
    column, if it is not the panel's."""

    query: Query
    legend: str = ""
    unit: Unit | None = None

    def __post_init__(self) -> None:
        if not self.query.closed:
            raise Bug(f"a panel must aggregate, or a scrape's labels split its lines: {self.query.promql()}")
        _check_names(self.legend, self.query)

    def named(self, labels: Mapping[str, str]) -> str:
        """The legend of one line."""
        return self.legend.format_map(labels)


@dataclass(frozen=True)
class Threshold:
    """From `at` on, values are of this `level`; below the first threshold they are of the panel's `base`."""

    at: float
    level: Level


@dataclass(frozen=True)
class Panel:
    """`lines` over time; `stat`: large last values; `bars`: last values side by side; `table`: a row for each combination of
    labels, a column for each series; `states`: over time, in words (`states`: value -> word, level).

    `shows`, `healthy` and `remedy` say in plain English what it shows, what is healthy, and what to do if it is not.
    `width` is in 24ths. `axis`: logarithmic, or from 0, up to `top` where that is known.
    """

    title: str
    shows: str
    healthy: str
    remedy: str
    unit: Unit
    series: tuple[Series, ...]
    kind: Kind = "lines"
    width: int = 8
    height: int = 8
    thresholds: tuple[Threshold, ...] = ()
    base: Level = "plain"
    decimals: int | None = None
    axis: Literal["", "log", "zero"] = ""
    top: float | None = None
    stacked: bool = False
    states: Mapping[int, tuple[str, Level]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("title", "shows", "healthy", "remedy"):
            if not getattr(self, name):
                raise Bug(f"panel {self.title!r}: {name} is empty")
        if not self.series or not 1 <= self.width <= COLUMNS:
            raise Bug(f"panel {self.title!r}: no series, or a width that is not in 1 ... 24")
        if (self.kind == "states") != bool(self.states):
            raise Bug(f"panel {self.title!r}: states belong to a panel of that kind, and must be named")
        if list(self.thresholds) != sorted(self.thresholds, key=lambda t: t.at):
            raise Bug(f"panel {self.title!r}: thresholds are not in order")

    @property
    def description(self) -> str:
        """All that is said of it."""
        return f"{self.shows} Healthy: {self.healthy} If not: {self.remedy}"

    @property
    def metrics(self) -> frozenset[Metric]:
        """All that it needs."""
        return frozenset().union(*(one.query.metrics for one in self.series))

    @property
    def needs(self) -> tuple[str, ...]:
        """What a machine must have for the panel to have all its data."""
        return tuple(sorted({metric.needs for metric in self.metrics if metric.needs}))


@dataclass(frozen=True)
class Variable:
    """A label whose values the viewer chooses; they are those that `metric` has. `multiple`: several at once, at first all."""

    label: str
    metric: Metric
    title: str
    multiple: bool = True

    def __post_init__(self) -> None:
        if self.label not in (*self.metric.labels, "cluster"):
            raise Bug(f"{self.metric.name} has no label {self.label}")


@dataclass(frozen=True)
class Annotation:
    """Moments marked on all panels: where `query` has a value that is not 0, or, with `at_value`, the Unix times that are its
    values. `text` may name the query's labels."""

    name: str
    query: Query
    text: str
    level: Level = "plain"
    at_value: bool = False

    def __post_init__(self) -> None:
        _check_names(self.text, self.query)


@dataclass(frozen=True)
class Link:
    """A page beside the board. `carries`: the time shown and the variables go along in the address, as `var-run=...`."""

    title: str
    url: str
    tooltip: str = ""
    carries: bool = False


@dataclass(frozen=True)
class Place:
    """Where a panel lies on a grid of 24 columns."""

    x: int
    y: int
    width: int


@dataclass(frozen=True)
class Row:
    """Panels under one heading, from left to right; those that do not fit begin a new line."""

    title: str
    panels: tuple[Panel, ...]

    def places(self, y: int) -> list[tuple[Panel, Place]]:
        """The panels and their places from the line `y` on. Lines that are not full are stretched."""
        placed: list[tuple[Panel, Place]] = []
        for line in self._lines():
            whole, x, share = sum(panel.width for panel in line), 0, 0
            for panel in line:
                share += panel.width
                end = round(COLUMNS * share / whole)
                placed.append((panel, Place(x, y, end - x)))
                x = end
            y += max(panel.height for panel in line)
        return placed

    def _lines(self) -> list[list[Panel]]:
        lines: list[list[Panel]] = []
        for panel in self.panels:
            if not lines or sum(one.width for one in lines[-1]) + panel.width > COLUMNS:
                lines.append([])
            lines[-1].append(panel)
        return lines


@dataclass(frozen=True)
class Board:
    """A page of panels. `question` is what its first row answers. All queries are limited by `variables`."""

    uid: str
    title: str
    question: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    annotations: tuple[Annotation, ...] = ()
    links: tuple[Link, ...] = ()
    runbooks: tuple[str, ...] = ()  # names of alerts
    hours: float = 6.0  # that are shown at first

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, from the top left."""
        return tuple(panel for row in self.rows for panel in row.panels)

    @property
    def scope(self) -> tuple[str, ...]:
        """The labels to whose chosen values every query is limited, in the order of `variables`."""
        return ("cluster", *(variable.label for variable in self.variables))
