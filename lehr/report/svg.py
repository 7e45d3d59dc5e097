"""Scales, ticks and marks: the few parts of a chart that this report needs, as SVG text.

Colours are CSS variables of the page (`var(--c-trunk-1)`), so that one drawing serves the light and the dark page. Sizes
are in units of the drawing's viewBox.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup

from lehr.report.format import esc


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] of the data onto [start, end] of the drawing, linearly or logarithmically."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        share = (value - low) / (high - low) if high != low else 0.5
        return round(self.start + min(max(share, -0.02), 1.02) * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the domain, about `wanted` of them."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 4 else (1,)
            found = [m * 10.0**d for d in decades for m in steps]
            found = [t for t in found if self.low <= t <= self.high]
            return found if len(found) > 2 else _even(self.low, self.high, wanted)
        return _even(self.low, self.high, wanted)


def _even(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of a round step in [low, high], about `wanted` of them and never one alone."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    larger = [m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * 0.999]
    smaller = [m * size for m in (5, 2.5, 2, 1, 0.5, 0.25, 0.2) if m * size < larger[0]]
    found: list[float] = []
    for step in (larger[0], *smaller):
        first = math.ceil(low / step - 1e-9)
        found = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
        if len(found) > 1:
            break
    return found


def padded(
    values: Sequence[float], share: float = 0.05, include: Sequence[float] = (), within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The range of the values, widened by a share on both sides; never empty. Nothing can be outside of `within`, so that the
    axis ends there too, but for a hair that a curve on the edge needs."""
    every = [*values, *include]
    low, high = min(every), max(every)
    if low == high == 0:
        return 0.0, 1.0
    pad = (high - low) * share or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return (low, high) if low < high else (low - pad, high + pad)


def text(x: float, y: float, value: object, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{esc(value)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str = "grid", style: str = "") -> str:
    extra = f' style="{style}"' if style else ""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{css}"{extra}/>'


def route(points: Sequence[tuple[float, float]]) -> str:
    """The `d` of a path through points, in tenths of a unit and as moves from point to point: a third of a page's bytes are
    these. Each move is between rounded places, so that no rounding adds up."""
    places = [(round(10 * x), round(10 * y)) for x, y in points]
    moves = [(bx - ax, by - ay) for (ax, ay), (bx, by) in pairwise(places)]
    start = "M" + _joined(places[0])
    return f"{start}l{_joined([n for move in moves for n in move])}" if moves else start


def _joined(tenths: Iterable[int]) -> str:
    """Numbers apart: by a space, or by the sign of the next one."""
    shown = [f"{n / 10:g}".replace("0.", ".", 1) if abs(n) < 10 and n else f"{n / 10:g}" for n in tenths]
    return "".join(f" {n}" if place and n[0] != "-" else n for place, n in enumerate(shown))


def path(points: Sequence[tuple[float, float]], colour: str, width: float = 1.75, dash: str = "") -> str:
    dashed = f";stroke-dasharray:{dash}" if dash else ""
    style = f"stroke:{colour};stroke-width:{width}{dashed}"
    return f'<path d="{route(points)}" fill="none" style="{style}" stroke-linejoin="round"/>'


def band(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], colour: str) -> str:
    return f'<path d="{route([*upper, *reversed(lower)])}Z" style="fill:{colour}" class="band"/>'


def figure(width: float, height: float, body: Sequence[str], label: str, css: str = "") -> Markup:
    """An <svg> that scales with its container; `label` is read out by screen readers. The one markup that no template makes:
    every text in it came through `esc`."""
    size = f'viewBox="0 0 {width:g} {height:g}"'
    return Markup(f'<svg {size} class="chart {css}" role="img" aria-label="{esc(label)}">{"".join(body)}</svg>')


def standalone(width: float, height: float, body: Sequence[str], label: str) -> str:
    """An SVG file that needs no page, with its style inside."""
    css = (Path(__file__).parent / "drawing.css").read_text(encoding="utf-8")
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lehr-report" {size} role="img" aria-label="{esc(label)}">'
        f"<style>{css}</style><svg>{''.join(body)}</svg></svg>\n"
    )


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """All labels of one axis with equally many decimals, as few as tell them apart; very small ones with an exponent."""
    if ticks and 0 < max(map(abs, ticks)) < 2e-3:
        labels = (f"{t:.3e}".split("e") for t in ticks)
        return ["0" if float(m) == 0 else f"{float(m):g}e{int(e)}" for m, e in labels]
    decimals = next((d for d in range(6) if all(abs(round(t, d) - t) <= 1e-9 * max(1, abs(t)) for t in ticks)), 6)
    return [f"{t:,.{decimals}f}" for t in ticks]


def y_axis(scale: Scale, left: float, right: float, wanted: int = 4) -> str:
    """Grid lines with their values at the left."""
    parts = []
    ticks = scale.ticks(wanted)
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        y = scale(tick)
        parts += [line(left, y, right, y), text(left - 6, y + 3.5, label, "tick", "end")]
    return "".join(parts)


def x_axis(scale: Scale, y: float, show: Callable[[float], str], label: str, wanted: int = 5) -> str:
    parts = [line(scale.start, y, scale.end, y, "axis")]
    for tick in scale.ticks(wanted):
        x = scale(tick)
        parts += [line(x, y, x, y + 4, "axis"), text(x, y + 15, show(tick), "tick", "middle")]
    return "".join([*parts, text(scale.end, y + 29, label, "axis-label", "end")])
