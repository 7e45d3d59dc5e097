"""Which panels of the boards `lehr watch` shows, and how the page is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lehr.monitoring.metrics import METRICS, Metric
from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.panel import Board, Panel, Series
from lehr.monitoring.watch.replay import IN_LOGS

Place = tuple[int, int]  # number of a panel, and of a series in it


@dataclass(frozen=True)
class Heading:
    """A row of a board, with the numbers of its panels."""

    row: str
    panels: tuple[int, ...]


class Shown:
    """All panels that ask for metrics of runs and of nothing else, by number; a panel of several boards has one."""

    def __init__(self, boards: Sequence[Board] = BOARDS) -> None:
        self.panels: list[Panel] = []
        self.boards: list[tuple[Board, tuple[Heading, ...]]] = []
        for board in boards:
            rows = [(row.title, [p for p in row.panels if p.metrics <= set(METRICS)]) for row in board.rows]
            headings = tuple(Heading(title, tuple(map(self._number, panels))) for title, panels in rows if panels)
            if headings:
                self.boards.append((board, headings))

    def _number(self, panel: Panel) -> int:
        if panel not in self.panels:
            self.panels.append(panel)
        return self.panels.index(panel)

    @cached_property
    def series(self) -> dict[Place, Series]:
        """Every query with its place."""
        return {(p, s): one for p, panel in enumerate(self.panels) for s, one in enumerate(panel.series)}

    @cached_property
    def written(self) -> dict[Place, str]:
        """Every query in words: several panels may ask the same."""
        return {place: one.query.promql() for place, one in self.series.items()}

    @cached_property
    def logged(self) -> frozenset[Place]:
        """The series that a stage's log answers alone."""
        return frozenset(place for place, one in self.series.items() if one.query.metrics <= IN_LOGS)

    @cached_property
    def gauges(self) -> frozenset[Place]:
        """Those of them that follow from the last values alone."""
        return frozenset(p for p in self.logged if all(m.kind == "gauge" for m in self.series[p].query.metrics))

    @cached_property
    def names(self) -> frozenset[str]:
        """Of all series in an exposition that some panel asks for."""
        metrics: set[Metric] = set().union(*(one.query.metrics for one in self.series.values()))
        suffixes = {"histogram": ("_bucket", "_sum", "_count")}
        return frozenset(metric.name + end for metric in metrics for end in suffixes.get(metric.kind, ("",)))

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        boards = [
            {
                "name": board.title.rpartition("/")[2].strip(),
                "uid": board.uid,
                "question": board.question,
                "rows": [vars(row) for row in rows],
            }
            for board, rows in self.boards
        ]
        return {"boards": boards, "panels": [_as_json(panel) for panel in self.panels]}


def _as_json(panel: Panel) -> dict[str, Any]:
    plain = ("title", "shows", "healthy", "remedy", "unit", "kind", "width", "base", "decimals", "axis", "top", "stacked")
    return {
        **{name: getattr(panel, name) for name in plain},
        "needs": list(panel.needs),
        "thresholds": [[limit.at, limit.level] for limit in panel.thresholds],
        "states": {str(value): list(said) for value, said in panel.states.items()},
        "queries": [one.query.promql() for one in panel.series],
        "columns": [one.legend for one in panel.series],
        "units": [panel.unit if one.unit is None else one.unit for one in panel.series],
    }
