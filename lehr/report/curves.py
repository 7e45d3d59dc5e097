"""Curves over a common axis, with the values near the pointer as the browser's own tooltips: the page has no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from lehr.report import svg
from lehr.report.format import count, esc, number

_BUCKETS = 140  # points that a curve is thinned to: more than a page can show are noise and bytes
_FEW = 12  # points that are shown one by one
_STRIPS = 48  # parts of the width that say their values
_NOISY = 4.0  # ups and downs of a curve, in multiples of its range, from which a mean is drawn over it
_LOG_FROM = 3.0  # highest over lowest value


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


@dataclass(frozen=True)
class Level:
    """A value to compare curves with, drawn across the chart under its name."""

    name: str
    value: float


@dataclass(frozen=True)
class Axes:
    """What a chart is of. `label` is read out, `x_label` stands below the axis. `log` and `zero` are wishes: of values of both
    signs, or of nearly one size, the logarithm shows nothing. `percent`: no value can be outside of 0 to 100."""

    label: str
    x_label: str
    log: bool = False
    zero: bool = False
    percent: bool = False
    width: float = 460
    height: float = 236


@dataclass(frozen=True)
class _Thinned:
    """A series as it is drawn: `smooth` is the running mean of a noisy one, else the means themselves."""

    series: Series
    buckets: list[Bucket]
    size: int
    smooth: list[float]

    @classmethod
    def of(cls, series: Series) -> _Thinned:
        buckets, size = bucketed(series.points)
        means = [b.mean for b in buckets]
        return cls(series, buckets, size, _running(means) if size == 1 and _is_noisy(means) else means)

    @property
    def smoothed(self) -> bool:
        return self.smooth != [b.mean for b in self.buckets]


def _is_noisy(values: Sequence[float]) -> bool:
    """Whether neighbours differ so much that the way is hard to see."""
    if len(values) <= _FEW:
        return False
    return sum(abs(b - a) for a, b in pairwise(values)) > _NOISY * (max(values) - min(values))


def _running(values: Sequence[float]) -> list[float]:
    """Means over an eighth of the values around each, fewer at the ends."""
    half = max(len(values) // 16, 1)
    spans = [(max(i - half, 0), min(i + half + 1, len(values))) for i in range(len(values))]
    return [math.fsum(values[a:b]) / (b - a) for a, b in spans]


def curve_chart(series: Sequence[Series], axes: Axes, levels: Sequence[Level] = ()) -> Markup:
    """Lines through means of buckets of steps; nothing where no series has a point."""
    drawn = [_Thinned.of(s) for s in series if s.points]
    if not drawn:
        return Markup()
    left, right, top, bottom = 50.0, axes.width - 8, 10.0, axes.height - 38
    ends = [b.x for d in drawn for b in d.buckets]
    x = svg.Scale(min(0.0, *ends) if min(ends) < 0.2 * max(ends) else min(ends), max(ends) or 1.0, left, right)
    y = _y_scale(drawn, axes, levels, bottom, top)
    body = [svg.y_axis(y, left, right), svg.x_axis(x, bottom, count, axes.x_label)]
    body += [svg.line(left, y(level.value), right, y(level.value), "guide") for level in levels]
    for i, level in enumerate(levels):  # names side by side, for the lines may lie close
        middle = left + (right - left) * (i + 0.5) / len(levels)
        body.append(svg.text(round(middle, 1), y(level.value) - 3, level.name, "tick", "middle"))
    body += [_band(d, x, y) for d in drawn if d.size > 1 and d.series.band]
    body += [part for d in drawn for part in _curve(d, x, y, bottom)]
    return svg.figure(axes.width, axes.height, [*body, *_strips(drawn, x, top, bottom)], axes.label)


def _y_scale(drawn: Sequence[_Thinned], axes: Axes, levels: Sequence[Level], bottom: float, top: float) -> svg.Scale:
    ends = [v for d in drawn for b in d.buckets for v in ((b.low, b.high) if d.series.band else (b.mean, b.mean))]
    values = [*ends, *(level.value for level in levels)]
    if axes.log and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        return svg.Scale(min(values) / 1.08, max(values) * 1.08, bottom, top, log=True)
    low, high = svg.padded(values, include=(0.0,) if axes.zero else (), within=(0.0, 100.0) if axes.percent else None)
    return svg.Scale(0.0 if axes.zero and min(values) >= 0 else low, high, bottom, top)


def _band(d: _Thinned, x: svg.Scale, y: svg.Scale) -> str:
    return svg.band([(x(b.x), y(b.high)) for b in d.buckets], [(x(b.x), y(b.low)) for b in d.buckets], d.series.colour)


def _curve(d: _Thinned, x: svg.Scale, y: svg.Scale, bottom: float) -> list[str]:
    colour, places = d.series.colour, [x(b.x) for b in d.buckets]
    parts = []
    if d.smoothed:
        faint = svg.path([(a, y(b.mean)) for a, b in zip(places, d.buckets, strict=True)], colour, 1)
        parts.append(f'<g class="faint">{faint}</g>')
    parts.append(svg.path([(a, y(v)) for a, v in zip(places, d.smooth, strict=True)], colour))
    if len(d.buckets) <= _FEW:
        dots = zip(places, d.buckets, strict=True)
        parts += [f'<circle cx="{a:g}" cy="{y(b.mean):g}" r="2.6" style="fill:{colour}"/>' for a, b in dots]
    return [*parts, *(_skip_mark(x(mark), bottom, colour) for mark in d.series.marks)]


def _strips(drawn: Sequence[_Thinned], x: svg.Scale, top: float, bottom: float) -> list[str]:
    """What the curves are near each part of the width: of each series the bucket that is nearest to the middle."""
    width = (x.end - x.start) / _STRIPS
    parts = []
    for strip in range(_STRIPS):
        start = x.start + strip * width
        near = [(d, b) for d in drawn if (b := _nearest(d.buckets, x, start, width)) is not None]
        if near:
            said = "\n".join([count(near[0][1].x), *(f"{d.series.name}: {number(b.mean, 4)}" for d, b in near)])
            size = f'x="{start:.1f}" y="{top:g}" width="{width:.1f}" height="{bottom - top:g}"'
            parts.append(f'<rect {size} class="near"><title>{esc(said)}</title></rect>')
    return parts


def _nearest(buckets: Sequence[Bucket], x: svg.Scale, start: float, width: float) -> Bucket | None:
    """The bucket nearest to the middle of a strip, if one is in it."""
    middle = start + width / 2
    best = min(buckets, key=lambda b: abs(x(b.x) - middle))
    return best if abs(x(best.x) - middle) <= width / 2 + 0.01 else None


def _skip_mark(x: float, bottom: float, colour: str) -> str:
    return f'<path d="M{x:g} {bottom - 7:g}l4 7h-8z" style="fill:{colour}" class="skip"><title>skipped step</title></path>'
