"""The drawing of how cost grows: panels with logarithmic axes, in the report's style, as one SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lehr.report import svg
from lehr.report.format import count

_WIDTH, _HEIGHT, _LEFT = 400.0, 250.0, 52.0
_TIME, _FLOPS, _LINEAR = "var(--c-trunk-1)", "var(--c-branch-1)", "var(--faint)"


@dataclass(frozen=True)
class Point:
    """Milliseconds measured at `x`, and what the closed form counts there (0: nothing to count)."""

    x: int
    ms: float
    flops: float


@dataclass(frozen=True)
class Panel:
    """One axis."""

    title: str
    x_label: str
    points: list[Point]


def drawing(panels: Sequence[Panel]) -> str:
    """Two panels a row, one legend for all."""
    names = ((_TIME, "measured", ""), (_FLOPS, "FLOPs in closed form, at one price", "6 4"), (_LINEAR, "linear", "1.5 3"))
    body, x = [], 12.0
    for colour, name, dash in names:
        body += [svg.path([(x, 20), (x + 24, 20)], colour, 2, dash), svg.text(x + 30, 24, name)]
        x += 56 + 5.8 * len(name)
    for number, panel in enumerate(panels):
        place = f"translate({number % 2 * (_WIDTH + 20):g} {44 + number // 2 * (_HEIGHT + 20):g})"
        body.append(f'<g transform="{place}">{"".join(_panel(panel))}</g>')
    width, height = 2 * _WIDTH + 30, 44 + -(-len(panels) // 2) * (_HEIGHT + 20)
    return svg.standalone(width, height, body, "Time of a training step and of a loader's start, as they grow")


def _panel(panel: Panel) -> list[str]:
    points, first = panel.points, panel.points[0]
    linear = [(p.x, first.ms * p.x / first.x) for p in points]
    price = sum(p.ms for p in points) / (sum(p.flops for p in points) or 1.0)
    counted = [(p.x, p.flops * price) for p in points if p.flops]
    values = [p.ms for p in points] + [y for _, y in counted]
    top = max(values) * 1.25 if counted else 10 * max(values)  # a line that leaves the panel: growth that there is none of
    x = svg.Scale(first.x, points[-1].x, _LEFT, _WIDTH - 12, log=True)
    y = svg.Scale(min(values) / 1.25, top, _HEIGHT - 44, 26, log=True)
    body = [svg.text(_LEFT, 14, panel.title, "strong"), svg.y_axis(y, _LEFT, _WIDTH - 12), _x_axis(x, panel)]
    body.append(svg.path([(x(a), y(b)) for a, b in _within(linear, top)], _LINEAR, 1.5, "1.5 3"))
    if counted:
        body.append(svg.path([(x(a), y(b)) for a, b in counted], _FLOPS, 2, "6 4"))
    body.append(svg.path([(x(p.x), y(p.ms)) for p in points], _TIME, 2))
    body += [f'<circle cx="{x(p.x):g}" cy="{y(p.ms):g}" r="3.2" style="fill:{_TIME}"/>' for p in points]
    return body


def _within(line: Sequence[tuple[float, float]], top: float) -> list[tuple[float, float]]:
    """The part of a straight line through the origin that a panel shows."""
    (first, low), (last, high) = line[0], line[-1]
    end = min(high, top)
    return [(first, low), (last * end / high, end)]


def _x_axis(x: svg.Scale, panel: Panel) -> str:
    """Each measured value has its tick."""
    base = _HEIGHT - 44
    parts = [svg.line(x.start, base, x.end, base, "axis")]
    for point in panel.points:
        shown = f"{point.x:,}" if point.x < 10**5 else count(point.x)
        at = x(point.x)
        parts += [svg.line(at, base, at, base + 4, "axis"), svg.text(at, base + 16, shown, "tick", "middle")]
    return "".join([*parts, svg.text(x.end, base + 32, panel.x_label, "axis-label", "end")])
