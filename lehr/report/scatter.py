"""Points on two axes with their names beside them, and the Pareto frontier through those that no other one beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from lehr.report import svg
from lehr.report.format import esc

_LEFT, _TOP = 50.0, 12.0
_LOG_FROM = 3.0  # largest over smallest amount
_CHARACTER, _LINE = 6.2, 12.0  # about what a letter takes, and a line
_LONGEST = 22  # characters of a name in the drawing
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Spot:
    """A point: `error` is drawn to both sides of y; `said` is its title, for a pointer and for a screen reader."""

    name: str
    x: float
    y: float
    error: float | None
    said: str
    colour: str
    on_frontier: bool


@dataclass(frozen=True)
class Field:
    """What the drawing is of. `show` writes a tick of the horizontal axis; `percent`: y are shares."""

    label: str
    x_label: str
    show: Callable[[float], str]
    percent: bool = False
    width: float = 360
    height: float = 236


def scatter(spots: Sequence[Spot], field: Field) -> Markup:
    """Empty without points. Those on the frontier are filled and joined, the others are rings; x is logarithmic where amounts
    are far apart, as in OLMo 2's Figure 1."""
    if not spots:
        return Markup()
    x, y = _scales(spots, field)
    bottom = y.start
    ticks = y.ticks(4)
    labels = svg.tick_labels([100 * t for t in ticks] if field.percent else ticks)
    body = [svg.line(_LEFT, y(t), x.end, y(t)) for t in ticks]
    body += [svg.text(_LEFT - 6, y(t) + 3.5, label, "tick", "end") for t, label in zip(ticks, labels, strict=True)]
    body.append(svg.x_axis(x, bottom, field.show, field.x_label, 4))
    best = sorted((s for s in spots if s.on_frontier), key=lambda s: s.x)
    if len(best) > 1:
        steps = [(x(best[0].x), y(best[0].y))]
        for before, after in pairwise(best):
            steps += [(x(after.x), y(before.y)), (x(after.x), y(after.y))]
        body.append(svg.path(steps, "var(--muted)", 1.2, "4 3"))
    body += [_spot(spot, x, y) for spot in spots]
    body += _names(spots, x, y)
    told = "; ".join(spot.said for spot in spots)
    return svg.figure(field.width, field.height, body, f"{field.label}. {told}")


def _scales(spots: Sequence[Spot], field: Field) -> tuple[svg.Scale, svg.Scale]:
    amounts = [spot.x for spot in spots]
    log = min(amounts) > 0 and max(amounts) > _LOG_FROM * min(amounts)
    if log:
        room = (max(amounts) / min(amounts)) ** 0.12
        low, high = min(amounts) / room, max(amounts) * room
    else:
        low, high = svg.padded(amounts, 0.15)
    ends = [s.y + side * e for s in spots for side in (-1, 1) if math.isfinite(e := s.error or 0.0)] or [s.y for s in spots]
    within = (0.0, 1.0) if field.percent else None
    x = svg.Scale(max(low, 0.0), high, _LEFT, field.width - 10, log)
    return x, svg.Scale(*svg.padded(ends, 0.1, within=within), field.height - 38, _TOP)


def _spot(spot: Spot, x: svg.Scale, y: svg.Scale) -> str:
    at, up = x(spot.x), y(spot.y)
    parts = []
    if spot.error and math.isfinite(spot.error):
        ends = y(spot.y - spot.error), y(spot.y + spot.error)
        parts.append(svg.line(at, ends[0], at, ends[1], "error", f"stroke:{spot.colour};opacity:.5"))
    fill = f"fill:{spot.colour}" if spot.on_frontier else f"fill:var(--paper);stroke:{spot.colour};stroke-width:1.8"
    parts.append(f'<circle cx="{at:g}" cy="{up:g}" r="{5 if spot.on_frontier else 4.2}" style="{fill}"/>')
    return f"<g><title>{esc(spot.said)}</title>{''.join(parts)}</g>"


def _names(spots: Sequence[Spot], x: svg.Scale, y: svg.Scale) -> list[str]:
    """Each beside its point, on the first side where it covers nothing; none where there is no room: the legend has it."""
    taken: list[Box] = [(x(s.x) - 5, y(s.y) - 5, x(s.x) + 5, y(s.y) + 5) for s in spots]
    found = []
    for spot in sorted(spots, key=lambda s: not s.on_frontier):
        name = spot.name if len(spot.name) <= _LONGEST else f"…{spot.name[1 - _LONGEST :]}"
        wide, at, up = _CHARACTER * len(name), x(spot.x), y(spot.y)
        right, beside, middle = at + 8, at - 8 - wide, at - wide / 2
        for left, down, anchor in (
            (right, up - 6, "start"), (right, up + 4, "start"), (right, up + 15, "start"), (beside, up - 6, "end"),
            (beside, up + 4, "end"), (beside, up + 15, "end"), (middle, up - 9, "middle"), (middle, up + 19, "middle"),
        ):  # fmt: skip
            box = (left, down - _LINE + 2, left + wide, down + 2)
            if left < _LEFT + 2 or box[2] > x.end + 8 or box[1] < 0 or box[3] > y.start or any(_meet(box, b) for b in taken):
                continue
            taken.append(box)
            place = {"start": left, "end": left + wide, "middle": left + wide / 2}[anchor]
            found.append(svg.text(round(place, 1), round(down, 1), name, "halo strong" if spot.on_frontier else "halo", anchor))
            break
    return found


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
