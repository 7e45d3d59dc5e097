"""Colours of stages, panels, and dots with error bars. Curves are in lehr.report.curves."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lehr.report import svg
from lehr.report.data import ReportData, StageReport
from lehr.report.format import esc

GREY = "var(--muted)"
PALETTES = {"trunk": 3, "branch": 4, "merge": 2, "post": 8}  # as many colours as drawing.css has of each
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
        palette: itertools.cycle([f"var(--c-{palette}-{number})" for number in range(1, size + 1)])
        for palette, size in PALETTES.items()
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
class Reading:
    """What curves are at a part of the width, `left` and `width` in per cent of the drawing's."""

    left: float
    width: float
    said: str


@dataclass(frozen=True)
class Panel:
    """A chart under its title; neither is shown where the chart is empty. `note` stands beside the title, `legend` (names and
    colours) below the chart. `readings` of one page are told apart by their `group`."""

    title: str
    chart: Markup
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()
    readings: Sequence[Reading] = ()
    group: str = ""


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot. `error` is one standard error, drawn to both sides. `hollow` marks a derived value, and what a
    model is compared with."""

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
) -> Markup:
    """Rows of dots with error bars, the value written at the right. `percent` labels shares; `guide` draws a line there."""
    left, right, row = 98.0, width - 96, 20.0
    bottom = 8 + row * len(dots)
    if domain is None:
        ends = [d.value + side * (d.error or 0.0) for d in dots for side in (-1, 1)]
        domain = svg.padded([e for e in ends if math.isfinite(e)] or [0.0], 0.08, within=(0.0, 1.0) if percent else None)
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
    parts.append(svg.text(right + 92, y + 3.5, dot.shown, f"value {css}", "end"))
    return f"<g><title>{esc(dot.label)}: {esc(dot.shown)}</title>{''.join(parts)}</g>"
