"""docs/metrics.md, from the list of metrics and the boards."""

from __future__ import annotations

from collections.abc import Iterable

from lehr.monitoring.metrics import FLEET_METRICS, LABELS, METRICS, RECORDED, SERVING_METRICS, Metric
from lehr.monitoring.panels.panel import Board

_HEAD = """# Metrics

Written by `make dashboards` from `monitoring/metrics/`; a test compares. Runs and pods serve them at `/metrics`. *Series*: the
most that one run, or one fleet of 2,048 nodes, may have. *Boards* are those of `monitoring/panels/`.
"""
_TABLE = "| name | kind | unit | labels | what it is | series | boards |\n|---|---|---|---|---|---|---|\n"


def page(boards: Iterable[Board]) -> str:
    """The page."""
    boards = tuple(boards)
    parts = [_HEAD]
    for title, metrics in (
        ("Of a run", METRICS),
        ("Of the fleet's controller", FLEET_METRICS),
        ("Of `lehr serve`", SERVING_METRICS),
        ("Made by the chart's recording rules of dcgm-exporter's", RECORDED),
    ):
        parts.append(f"\n## {title}\n\n{_TABLE}" + "".join(_row(metric, boards) for metric in metrics))
    rows = "".join(f"| `{name}` | {label.values:,} | {label.meaning} |\n" for name, label in LABELS.items())
    return "".join(parts) + f"\n## Labels\n\n| label | values at most | what it is |\n|---|---|---|\n{rows}"


def _row(metric: Metric, boards: tuple[Board, ...]) -> str:
    text = metric.help + (f" Needs {metric.needs}." if metric.needs else "")
    on = ", ".join(board.title.removeprefix("Lehr / ") for board in boards if metric in used(board))
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {text} | {metric.series:,} | {on} |\n"


def used(board: Board) -> frozenset[Metric]:
    """All metrics that a board asks for: its panels, marks and variables."""
    asked = [panel.metrics for panel in board.panels] + [mark.query.metrics for mark in board.annotations]
    return frozenset().union(*asked, {variable.metric for variable in board.variables})
