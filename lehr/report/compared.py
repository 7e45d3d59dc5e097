"""The page of `lehr compare`: runs side by side, in the drawings of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from lehr.report import format as fmt
from lehr.report.against_cost import against_cost
from lehr.report.charts import Dot, Panel, dot_plot
from lehr.report.curves import Axes, Series, curve_panel
from lehr.report.data import StageReport
from lehr.report.differences import difference_text
from lehr.report.rendering import rendered
from lehr.report.speed import Row as Timed
from lehr.runtime import metrics
from lehr.runtime.metrics import Metric

if TYPE_CHECKING:
    from lehr.analysis.differences import Row, Standing
    from lehr.analysis.runs import ComparedRun, Group
    from lehr.analysis.side_by_side import SideBySide

_COLOURS = [
    f"var(--c-{name})" for name in ("trunk-1", "branch-1", "merge-1", "post-1", "trunk-2", "post-5", "trunk-3", "post-4")
]
_LABEL = 15  # characters beside a dot
_DASHES = ("", "6 3", "2 2", "8 3 2 3")  # seeds of one group
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class _Line:
    """How a run is drawn: groups by colour, the seeds of one by dashes."""

    run: ComparedRun
    colour: str
    dash: str

    def series(self, points: Points) -> Series:
        return Series(self.run.name, self.colour, points, band=False, dash=self.dash)


def comparison_page(found: SideBySide) -> str:
    """One self-contained HTML page."""
    lines = list(_lines(found))
    return rendered(
        "compared.html",
        whole=True,
        title=f"{', '.join(run.name for run in found.runs)} · compared",
        found=found,
        groups=[(group.name, _colour(number)) for number, group in enumerate(found.groups)],
        differences=[f"{_short(group)} − {_short(found.groups[0])}" for group in found.groups[1:]],
        scores=[_score_row(row) for row in found.scores],
        score_panels=[_score_panel(row, found) for row in found.scores],
        against=against_cost(found, [_colour(number) for number in range(len(found.groups))]),
        curves={name: _curve_panels(name, lines) for name in _trained(found)},
        speeds=_speeds(found),
        scored={group.name: stage for group, stage in zip(found.groups, found.stages, strict=True)},
    )


def _short(group: Group) -> str:
    """`3 seeds` of a seed group."""
    return group.name.partition(":")[0]


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _lines(found: SideBySide) -> Iterator[_Line]:
    for number, group in enumerate(found.groups):
        for seed, run in enumerate(group.runs):
            yield _Line(run, _colour(number), _DASHES[seed % len(_DASHES)])


def _trained(found: SideBySide) -> list[str]:
    """The stages that have a log in any run, in the order of the first run that has each."""
    return list(dict.fromkeys(stage.name for run in found.runs for stage in run.stages if stage.curves))


def _stage(run: ComparedRun, name: str) -> StageReport | None:
    return next((stage for stage in run.stages if stage.name == name and stage.curves), None)


def _curve_panels(name: str, lines: Sequence[_Line]) -> list[Panel]:
    """The loss over steps, tokens and time, then what else the logs hold that is declared, over tokens."""
    loss = metrics.metric("loss")
    panels = [
        _panel(f"{loss.heading}, over {over}", loss, name, lines, (x_label, places))
        for over, x_label, places in (
            ("steps", "step", _steps),
            ("tokens", "tokens of the stage", StageReport.places),
            ("time", "seconds in steps", _seconds),
        )
    ]  # fmt: skip
    keys = {key for line in lines if (stage := _stage(line.run, name)) for point in stage.curves for key in point}
    more = [m for m in metrics.ordered(keys) if m.panel and m.name != "loss" and metrics.find(m.name) is not None]
    panels += [_panel(m.heading, m, name, lines, ("tokens of the stage", StageReport.places)) for m in more]
    return [panel for panel in panels if panel.chart]


_Over = tuple[str, Callable[[StageReport], list[float]]]  # the horizontal axis: its label, and the place of each point


def _panel(title: str, m: Metric, name: str, lines: Sequence[_Line], over: _Over) -> Panel:
    x_label, places = over
    scale = 100 if m.is_share else 1
    series = []
    for line in lines:
        stage = _stage(line.run, name)
        at = dict(zip(stage.places(), places(stage), strict=True)) if stage else {}
        points = [(at[place], scale * value) for place, value in stage.series(m.name)] if stage else []
        series.append(line.series(points))
    label = f"{name}: {title}"
    log, zero = m.axis == "log" or m.name == "loss", m.axis == "zero"
    axes = Axes(label, x_label, log=log, zero=zero, percent=m.is_share, width=360, height=200)
    return curve_panel(title, series, axes)


def _steps(stage: StageReport) -> list[float]:
    return [float(point.get("step") or number) for number, point in enumerate(stage.curves, 1)]


def _seconds(stage: StageReport) -> list[float]:
    """What the steps until each point took. Of a log without times one place, which shows nothing."""
    taken = (float(point.get("seconds") or 0.0) for point in stage.curves)
    return list(accumulate(seconds if math.isfinite(seconds) else 0.0 for seconds in taken))


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table, as text: a value and an error for each group; a difference, its interval and whether it leaves 0 out
    for each but the first."""

    task: str
    heading: str
    values: list[tuple[str, str]]
    differences: list[tuple[str, str, bool]]


def _score_row(row: Row) -> ScoreRow:
    about = row.column.about
    values = [standing_text(standing, about) for standing in row.standings]
    differences = [(*difference_text(d, about), d is not None and d.is_clear) for d in row.differences]
    return ScoreRow(fmt.words(row.column.task), ", ".join(filter(None, (about.heading, row.note))), values, differences)


def standing_text(standing: Standing | None, about: Metric) -> tuple[str, str]:
    """`75.0`, `± 1.2`: of seeds their standard deviation and number stand in the second."""
    if standing is None:
        return "–", ""
    value = fmt.value(standing.value, about)
    if standing.runs > 1:
        return value, f"± {fmt.value(standing.error, about)} over {standing.runs} seeds"
    r = standing.record
    return value, fmt.error(r.value, r.stderr, r.n, about)


def _score_panel(row: Row, found: SideBySide) -> Panel:
    about, dots = row.column.about, []
    for number, (group, standing) in enumerate(zip(found.groups, row.standings, strict=True)):
        if standing is not None:
            shown = " ".join(standing_text(standing, about)[:1])
            more = f" +{len(group.runs) - 1}" if group.of_seeds else ""
            label = _cut(group.runs[0].name, _LABEL - len(more)) + more
            dots.append(Dot(label, standing.value, standing.error, shown, _colour(number)))
    title = fmt.words(row.column.task)
    return Panel(title, dot_plot(dots, label=f"{title} of each run", percent=about.is_share), about.heading)


def _cut(name: str, characters: int) -> str:
    """A name that fits beside a drawing; the end of an address says more than its beginning."""
    return name if len(name) <= characters else f"…{name[1 - characters :]}"


def _speeds(found: SideBySide) -> dict[str, list[Timed | None]]:
    """By stage the times of its steps in each run."""
    return {
        name: [Timed.of(stage, 0.0) if (stage := _stage(run, name)) else None for run in found.runs] for name in _trained(found)
    }
