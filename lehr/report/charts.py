"""The report's two charts: curves over tokens, and dots with error bars."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from lehr.report import svg
from lehr.report.data import ReportData, StageReport
from lehr.report.format import count
from lehr.report.style import PALETTES

_BUCKETS = 140  # points that a curve is thinned to: more than a page can show are noise and bytes
_FEW = 12  # points that are shown one by one
GREY = "var(--muted)"
_PALETTE_OF = {"pretraining": "trunk", "soup": "merge", "post-training": "post"}


@dataclass(frozen=True)
class Step:
    """A stage to be coloured. Pretraining stages of equal `origin` are siblings: they continue the same model."""

    name: str
    phase: str
    origin: Hashable


def colours_of(steps: Sequence[Step]) -> dict[str, str]:
    """A colour per stage, by its phase and its place among the stages of that phase; siblings share a hue."""
    siblings = Counter(step.origin for step in steps if step.phase == "pretraining")
    turns = {
        palette: itertools.cycle([f"var(--c-{palette}-{number})" for number in range(1, len(colours) + 1)])
        for palette, colours in PALETTES.items()
    }
    found = {}
    for step in steps:
        palette = _PALETTE_OF.get(step.phase)
        if step.phase == "pretraining" and siblings[step.origin] > 1:
            palette = "branch"
        found[step.name] = next(turns[palette]) if palette else GREY
    return found


def origin(data: ReportData, stage: StageReport) -> tuple[str, ...]:
    """The models that a stage was made from; where none of them is in the report, everything that it was made from."""
    models = tuple(parent.name for parent in data.parents_of(stage) if parent.kind == "checkpoint")
    return models or tuple(stage.parents)


def stage_colours(data: ReportData) -> dict[str, str]:
    """One colour per stage, the same in every chart: models by phase and place, everything else grey."""
    models = [Step(s.name, s.phase, origin(data, s)) for s in data.stages if s.kind == "checkpoint"]
    names = [*(s.name for s in data.stages), *(r.stage for r in data.scores)]
    return {**dict.fromkeys(names, GREY), **colours_of(models)}


@dataclass(frozen=True)
class Bucket:
    """Mean place and value of some consecutive points, with the lowest and highest value among them."""

    x: float
    mean: float
    low: float
    high: float


def bucketed(points: Sequence[tuple[float, float]], most: int = _BUCKETS) -> tuple[list[Bucket], int]:
    """At most `most` buckets of equally many consecutive points, and that number of points."""
    size = max(1, -(-len(points) // most))
    buckets = []
    for at in range(0, len(points), size):
        part = points[at : at + size]
        values = [y for _, y in part]
        buckets.append(Bucket(sum(x for x, _ in part) / len(part), sum(values) / len(values), min(values), max(values)))
    return buckets, size


@dataclass
class Series:
    """One curve: `points` are (x, value), x already on the chart's common axis; `marks` are x of skipped steps."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    marks: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Level:
    """A value to compare curves with, drawn across the chart under its name."""

    name: str
    value: float


def curve_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    log: bool = False,
    zero: bool = False,
    levels: Sequence[Level] = (),
    width: float = 460,
    height: float = 236,
) -> str:
    """Curves over a common axis: the line is the mean of a bucket of steps, the band its lowest to highest value."""
    left, right, top, bottom = 50.0, width - 8, 10.0, height - 38
    thinned = [(s, *bucketed(s.points)) for s in series if s.points]
    values = [v for _, buckets, _ in thinned for b in buckets for v in (b.low, b.high)]
    if not values:
        return ""
    values += [level.value for level in levels]
    log = log and min(values) > 0 and max(values) > 8 * min(values)
    low, high = (min(values) / 1.15, max(values) * 1.15) if log else svg.padded(values, include=(0.0,) if zero else ())
    if zero and min(values) >= 0:
        low = 0.0
    ends = [b.x for _, buckets, _ in thinned for b in buckets]
    x = svg.Scale(min(0.0, *ends) if min(ends) < 0.2 * max(ends) else min(ends), max(ends) or 1.0, left, right)
    y = svg.Scale(low, high, bottom, top, log)
    body = [svg.y_axis(y, left, right), svg.x_axis(x, bottom, count, x_label)]
    body += [svg.line(left, y(level.value), right, y(level.value), "guide") for level in levels]
    body += [svg.text(right, y(level.value) - 3, level.name, "tick", "end") for level in levels]
    for s, buckets, size in thinned:
        if size > 1:
            body.append(svg.band([(x(b.x), y(b.high)) for b in buckets], [(x(b.x), y(b.low)) for b in buckets], s.colour))
    for s, buckets, _ in thinned:
        body.append(svg.path([(x(b.x), y(b.mean)) for b in buckets], s.colour))
        if len(buckets) <= _FEW:
            body += [f'<circle cx="{x(b.x):g}" cy="{y(b.mean):g}" r="2.6" style="fill:{s.colour}"/>' for b in buckets]
        body += [_skip_mark(x(mark), bottom, s.colour) for mark in s.marks]
    return svg.figure(width, height, body, label)


def _skip_mark(x: float, bottom: float, colour: str) -> str:
    return f'<path d="M{x:g} {bottom - 7:g}l4 7h-8z" style="fill:{colour}" class="skip"><title>skipped step</title></path>'


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot. `error` is one standard error, drawn to both sides. `hollow` marks a derived value."""

    label: str
    value: float
    error: float | None
    shown: str
    colour: str = "var(--ink)"
    hollow: bool = False
    strong: bool = False


def dot_plot(
    dots: Sequence[Dot],
    *,
    label: str,
    percent: bool = False,
    domain: tuple[float, float] | None = None,
    guide: float | None = None,
    width: float = 360,
) -> str:
    """Rows of dots with error bars, the value written at the right. `percent` labels shares; `guide` draws a line there."""
    left, right, row = 98.0, width - 96, 20.0
    bottom = 8 + row * len(dots)
    if domain is None:
        ends = [d.value + side * (d.error or 0.0) for d in dots for side in (-1, 1)]
        domain = svg.padded([e for e in ends if math.isfinite(e)] or [0.0], 0.08)
    x = svg.Scale(*domain, left, right)
    ticks = x.ticks(3)
    names = svg.tick_labels([100 * t for t in ticks] if percent else ticks)
    body = [svg.line(x(t), 4, x(t), bottom) for t in ticks]
    body += [svg.text(x(t), bottom + 14, name, "tick", "middle") for t, name in zip(ticks, names, strict=True)]
    if guide is not None:
        body.append(svg.line(x(guide), 4, x(guide), bottom, "guide"))
    for i, dot in enumerate(dots):
        body.append(_dot_row(dot, x, 4 + row * (i + 0.5), right))
    return svg.figure(width, bottom + 20, body, label)


def _dot_row(dot: Dot, x: svg.Scale, y: float, right: float) -> str:
    css = "row strong" if dot.strong else "row"
    parts = [svg.text(86, y + 3.5, dot.label, css, "end")]
    if math.isfinite(dot.value):
        if dot.error:
            parts.append(svg.line(x(dot.value - dot.error), y, x(dot.value + dot.error), y, "error", f"stroke:{dot.colour}"))
        fill = f"fill:var(--paper);stroke:{dot.colour};stroke-width:1.6" if dot.hollow else f"fill:{dot.colour}"
        parts.append(f'<circle cx="{x(dot.value):g}" cy="{y:g}" r="{4.4 if dot.strong else 3.6}" style="{fill}"/>')
    return "".join([*parts, svg.text(right + 92, y + 3.5, dot.shown, f"value {css}", "end")])
