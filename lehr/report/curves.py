"""Curves over a common axis, in one drawing with what the page's choices show: both vertical axes, smoothed and not."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from lehr.report import svg
from lehr.report.charts import Panel, Reading
from lehr.report.format import count, number

_BUCKETS = 140  # points that a curve is thinned to: more than a page can show are noise and bytes
_FEW = 12  # points that are shown one by one
_STRIPS = 48  # parts of the width that say their values
_NOISY = 4.0  # ups and downs of a curve, in multiples of its range, from which a mean is drawn over it
_LOG_FROM = 3.0  # highest over lowest value
_DEPTH = 1e-4  # of the highest value: how far down a logarithmic axis shows
_SEEN = 0.01  # of a curve's range: a running mean that stays closer to the curve is no other curve
_SMOOTH = 48  # points of a running mean, about
_HIDDEN = ' display="none"'  # until the style sheet shows it: of a page that forbids styles, one drawing is left and not two
_LEFT = 50.0  # room for the labels of the vertical axis

Legend = Sequence[tuple[str, str]]


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
    """One curve: `points` are (x, value), x already on the chart's common axis; `marks` are x of skipped steps. `band`: show
    the lowest and highest value too, which of curves that lie over one another hide each other."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    marks: list[float] = field(default_factory=list)
    band: bool = True
    dash: str = ""  # SVG's lengths of dash and gap


@dataclass(frozen=True)
class Level:
    """A value to compare curves with, drawn across the chart under its name."""

    name: str
    value: float


@dataclass(frozen=True)
class Axes:
    """What a chart is of. `label` is read out, `x_label` stands below the axis. `log` and `zero` are wishes: of values of both
    signs, or of nearly one size, the logarithm shows nothing. `percent`: no value can be outside of 0 to 100. `until`: where
    the horizontal axis ends, for charts that share it; else with the last point."""

    label: str
    x_label: str
    log: bool = False
    zero: bool = False
    percent: bool = False
    until: float | None = None
    width: float = 460
    height: float = 236


@dataclass(frozen=True)
class _Thinned:
    """A series as it is drawn: the means of its buckets, and their running mean where that is another curve."""

    series: Series
    buckets: list[Bucket]
    size: int
    smooth: list[float]

    @classmethod
    def of(cls, series: Series) -> _Thinned:
        buckets, size = bucketed(series.points)
        means = [b.mean for b in buckets]
        smooth = _running(means) if len(means) > _FEW else means
        apart = max(abs(a - b) for a, b in zip(means, smooth, strict=True))
        return cls(series, buckets, size, smooth if apart > _SEEN * (max(means) - min(means)) else [])

    @property
    def noisy(self) -> bool:
        """Whether the running mean is drawn unasked: single steps, so uneven that their way is hard to see."""
        return self.size == 1 and bool(self.smooth) and _is_noisy([b.mean for b in self.buckets])


def _is_noisy(values: Sequence[float]) -> bool:
    return sum(abs(b - a) for a, b in pairwise(values)) > _NOISY * (max(values) - min(values))


def _running(values: Sequence[float]) -> list[float]:
    """Means over an eighth of the values around each. Where fewer are left on one side, the line through the same window:
    the mean of one side would lag behind a slope."""
    half = max(len(values) // 16, 1)
    found = []
    for i in range(len(values)):
        first, last = max(i - half, 0), min(i + half, len(values) - 1)
        middle, window = (first + last) / 2, values[first : last + 1]
        mean = math.fsum(window) / len(window)
        spread = math.fsum((j - middle) ** 2 for j in range(first, last + 1))
        slope = math.fsum((j - middle) * (v - mean) for j, v in enumerate(window, first)) / spread
        found.append(mean + slope * (i - middle))
    return found


@dataclass(frozen=True)
class _Frame:
    """Where a chart's curves lie, and its horizontal scale."""

    x: svg.Scale
    top: float
    bottom: float

    @classmethod
    def of(cls, drawn: Sequence[_Thinned], axes: Axes) -> _Frame:
        ends = [b.x for d in drawn for b in d.buckets] if axes.until is None else [0.0, axes.until]
        low = min(0.0, *ends) if min(ends) < 0.2 * max(ends) else min(ends)
        return cls(svg.Scale(low, max(ends) or 1.0, _LEFT, axes.width - 8), 10.0, axes.height - 38)


def curve_panel(
    title: str, series: Sequence[Series], axes: Axes, note: str = "", levels: Sequence[Level] = (), legend: Legend = ()
) -> Panel:
    """Lines through means of buckets of steps, with their values by part of the width; an empty chart where no series has a
    point. Where a logarithm would show more, or less, the drawing holds both axes."""
    drawn = [_Thinned.of(s) for s in series if s.points]
    if not drawn:
        return Panel(title, Markup())
    frame = _Frame.of(drawn, axes)
    scales = _y_scales(drawn, axes, levels, frame)
    body = [svg.x_axis(frame.x, frame.bottom, count, axes.x_label)]
    for place, (kind, y) in enumerate(scales.items()):
        inside = "".join(_on(y, drawn, frame, levels))
        body.append(f'<g class="{kind}"{_HIDDEN if place else ""}>{inside}</g>' if len(scales) > 1 else inside)
    body += [_skip_mark(frame.x(mark), frame.bottom, d.series.colour) for d in drawn for mark in d.series.marks]
    suits = f"suits-{next(iter(scales))}" if len(scales) > 1 else ""
    chart = svg.figure(axes.width, axes.height, body, axes.label, suits)
    group = f"c{zlib.crc32(f'{title}/{axes.label}/{axes.x_label}'.encode()):x}"
    return Panel(title, chart, note, legend, _readings(drawn, frame, axes), group)


def _on(y: svg.Scale, drawn: Sequence[_Thinned], frame: _Frame, levels: Sequence[Level]) -> list[str]:
    """All that depends on the vertical scale."""
    left, right = frame.x.start, frame.x.end
    body = [svg.y_axis(y, left, right)]
    body += [svg.line(left, y(level.value), right, y(level.value), "guide") for level in levels]
    for i, level in enumerate(levels):  # names side by side, for the lines may lie close
        middle = left + (right - left) * (i + 0.5) / len(levels)
        body.append(svg.text(round(middle, 1), y(level.value) - 3, level.name, "tick", "middle"))
    body += [_band(d, frame.x, y) for d in drawn if d.size > 1 and d.series.band]
    return body + [_curve(d, frame.x, y) for d in drawn]


def _y_scales(
    drawn: Sequence[_Thinned], axes: Axes, levels: Sequence[Level], frame: _Frame
) -> dict[Literal["lin", "log"], svg.Scale]:
    """The one that suits first; a logarithmic one only of values that are not negative, and not of nearly one size."""
    ends = [v for d in drawn for b in d.buckets for v in ((b.low, b.high) if d.series.band else (b.mean, b.mean))]
    values = [*ends, *(level.value for level in levels)]
    low, high = svg.padded(values, include=(0.0,) if axes.zero else (), within=(0.0, 100.0) if axes.percent else None)
    linear = svg.Scale(0.0 if axes.zero and min(values) >= 0 else low, high, frame.bottom, frame.top)
    top = max(values)
    least = max(min((v for v in values if v > 0), default=top), top * _DEPTH)
    means = [b.mean for d in drawn for b in d.buckets]
    mostly_zero = sum(mean > 0 for mean in means) < len(means) / 2
    if axes.percent or mostly_zero or min(values) < 0 or top <= _LOG_FROM * least:
        return {"lin": linear}
    log = svg.Scale(least / 1.08, top * 1.08, frame.bottom, frame.top, log=True)
    return {"log": log, "lin": linear} if axes.log and min(values) > 0 else {"lin": linear, "log": log}


def _band(d: _Thinned, x: svg.Scale, y: svg.Scale) -> str:
    return svg.band([(x(b.x), y(b.high)) for b in d.buckets], [(x(b.x), y(b.low)) for b in d.buckets], d.series.colour)


def _curve(d: _Thinned, x: svg.Scale, y: svg.Scale) -> str:
    """The means, and thinner the running mean, of which the page shows one, the other or both. What a logarithm cannot show is
    left out."""
    shown = [(b.x, b.mean) for b in d.buckets if not y.log or b.mean >= y.low]
    if not shown:
        return ""
    parts = [f'<path class="raw" d="{svg.route([(x(a), y(v)) for a, v in shown])}"/>']
    if d.smooth:
        every = max(len(d.buckets) // _SMOOTH, 1)
        last = len(d.smooth) - 1
        smooth = [(b.x, v) for i, (b, v) in enumerate(zip(d.buckets, d.smooth, strict=True)) if i % every == 0 or i == last]
        smooth = [(x(a), y(v)) for a, v in smooth if not y.log or v >= y.low]
        parts += [f'<path class="sm"{"" if d.noisy else _HIDDEN} d="{svg.route(smooth)}"/>'] if smooth else []
    if len(d.buckets) <= _FEW:
        parts += [f'<circle cx="{x(a):g}" cy="{y(v):g}" r="2.6" style="fill:{d.series.colour}"/>' for a, v in shown]
    css = f"curve{' both' if len(parts) > 1 and d.smooth else ''}{' noisy' if d.noisy else ''}"
    dashed = f";stroke-dasharray:{d.series.dash}" if d.series.dash else ""
    return f'<g class="{css}" fill="none" stroke="currentColor" style="stroke:{d.series.colour}{dashed}">{"".join(parts)}</g>'


def _readings(drawn: Sequence[_Thinned], frame: _Frame, axes: Axes) -> list[Reading]:
    """What the curves are near each part of the width, of each series the bucket that is nearest to the middle. Each reaches
    half way to the next one, so that the pointer always has one."""
    x = frame.x
    width = (x.end - x.start) / _STRIPS
    found: list[tuple[float, str]] = []
    for strip in range(_STRIPS):
        start = x.start + strip * width
        near = [(d, b) for d in drawn if (b := _nearest(d.buckets, x, start, width)) is not None]
        if near:
            place = near[0][1].x
            said = [f"{axes.x_label}: {count(place)}", *(f"{d.series.name}: {number(b.mean, 4)}" for d, b in near)]
            if not found or found[-1][1] != "\n".join(said):  # one bucket on the border of two strips
                found.append((min(max(x(place), start), start + width), "\n".join(said)))
    middles = [(a + b) / 2 for (a, _), (b, _) in pairwise(found)]
    edges = zip([x.start, *middles], [*middles, x.end], strict=True)
    share = 100 / axes.width
    return [
        Reading(round(a * share, 1), round((b - a) * share, 1), said) for (a, b), (_, said) in zip(edges, found, strict=True)
    ]


def _nearest(buckets: Sequence[Bucket], x: svg.Scale, start: float, width: float) -> Bucket | None:
    """The bucket nearest to the middle of a strip, if one is in it."""
    middle = start + width / 2
    best = min(buckets, key=lambda b: abs(x(b.x) - middle))
    return best if abs(x(best.x) - middle) <= width / 2 + 0.01 else None


def _skip_mark(x: float, bottom: float, colour: str) -> str:
    return f'<path d="M{x:g} {bottom - 7:g}l4 7h-8z" style="fill:{colour}" class="skip"><title>skipped step</title></path>'
