"""The drawing of `lehr plan --plot`: learning rate and batch size of all stages over tokens, as SVG or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lehr.report import svg
from lehr.report.charts import Panel, Step, colours_of
from lehr.report.format import count
from lehr.report.rendering import rendered

_WIDTH, _HEIGHT, _GAP = 560.0, 250.0, 34.0
_DEPTH = 1e-4  # of the highest rate: how far down a logarithmic axis shows


@dataclass(frozen=True)
class ScheduleLine:
    """One stage: (tokens seen by the model, learning rate) and (tokens seen, tokens in a batch). `phase` is pretraining or
    post-training."""

    name: str
    phase: str
    rates: list[tuple[float, float]]
    batches: list[tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    title: str
    note: str
    of: str  # rates or batches
    log_x: bool = False
    log_y: bool = False
    phase: str = "pretraining"
    x_label: str = "tokens seen"


_SINCE = "tokens since pretraining"  # an axis of its own: beside pretraining's tokens those of post-training are a sliver
_PANELS = (
    _Panel("Learning rate", "linear", "rates"),
    _Panel("Learning rate", "logarithmic", "rates", log_y=True),
    _Panel("Learning rate", "both axes logarithmic", "rates", log_x=True, log_y=True),
    _Panel("Batch size, tokens", "linear", "batches"),
    _Panel("Learning rate of post-training", "logarithmic", "rates", log_y=True, phase="post-training", x_label=_SINCE),
    _Panel("Batch size of post-training, tokens", "linear", "batches", phase="post-training", x_label=_SINCE),
)


def _panels(lines: Sequence[ScheduleLine]) -> list[tuple[_Panel, list[ScheduleLine]]]:
    """Those that there is something for, each with its lines."""
    found = [(panel, [line for line in lines if line.phase == panel.phase]) for panel in _PANELS]
    start = min((line.rates[0][0] for line in lines if line.phase == "post-training"), default=0.0)
    return [(panel, [_since(line, start) for line in own]) for panel, own in found if own]


def _since(line: ScheduleLine, start: float) -> ScheduleLine:
    """A line of post-training on an axis that begins at `start`."""
    if line.phase == "pretraining":
        return line
    rates, batches = ([(x - start, y) for x, y in points] for points in (line.rates, line.batches))
    return ScheduleLine(line.name, line.phase, rates, batches)


def schedules_html(title: str, lines: Sequence[ScheduleLine]) -> str:
    """A page that needs nothing else."""
    colours = _colours(lines)
    panels = [
        Panel(p.title, svg.figure(_WIDTH, _HEIGHT, _body(p, own, colours), f"{p.title}, {p.note}"), p.note)
        for p, own in _panels(lines)
    ]
    legend = [(line.name, colours[line.name]) for line in lines]
    return rendered("schedules.html", whole=True, title=f"{title} · schedules", name=title, stages=legend, panels=panels)


def schedules_svg(title: str, lines: Sequence[ScheduleLine]) -> str:
    """A drawing that needs nothing else: the panels below one another, the legend on top."""
    colours = _colours(lines)
    parts, y = [svg.text(10, 24, title, "strong")], 48.0
    x = 10.0
    for line in lines:
        if x + 30 + 7.5 * len(line.name) > _WIDTH:
            x, y = 10.0, y + 18
        parts.append(f'<rect x="{x:g}" y="{y - 9:g}" width="10" height="10" rx="2" style="fill:{colours[line.name]}"/>')
        parts.append(svg.text(x + 15, y, line.name))
        x += 30 + 7.5 * len(line.name)
    for panel, own in _panels(lines):
        y += _GAP
        parts.append(svg.text(10, y, f"{panel.title} ({panel.note})", "strong"))
        parts.append(f'<g transform="translate(0 {y + 8:g})">{"".join(_body(panel, own, colours))}</g>')
        y += _HEIGHT
    return svg.standalone(_WIDTH + 20, y + 10, parts, title)


def _y_axis(scale: svg.Scale, panel: _Panel) -> list[str]:
    """Grid lines with short labels: counts for batches, powers of ten where the axis has them."""
    ticks = scale.ticks(4)
    labels = svg.tick_labels(ticks)
    if panel.of == "batches" or panel.log_y:
        labels = [count(t) if panel.of == "batches" else f"{t:.2g}".replace("e-0", "e-") for t in ticks]
    parts = []
    for tick, label in zip(ticks, labels, strict=True):
        parts += [svg.line(62, scale(tick), _WIDTH - 14, scale(tick)), svg.text(56, scale(tick) + 3.5, label, "tick", "end")]
    return parts


def _colours(lines: Sequence[ScheduleLine]) -> dict[str, str]:
    """As in the report; pretraining stages that begin at the same token continue the same model."""
    return colours_of([Step(line.name, line.phase, line.rates[0][0]) for line in lines])


def _body(panel: _Panel, lines: Sequence[ScheduleLine], colours: dict[str, str]) -> list[str]:
    """Axes and curves. A logarithmic axis leaves out what is zero or far below the highest value."""
    curves = {line.name: getattr(line, panel.of) for line in lines}
    values = [y for points in curves.values() for _, y in points]
    top = max(values)
    low = max(min((v for v in values if v > 0), default=top), top * _DEPTH) if panel.log_y else 0.0
    ends = [x for points in curves.values() for x, _ in points if x > 0]
    first = min(line.batches[0][1] for line in lines) if panel.log_x else 0.0  # one step
    x = svg.Scale(first, max(ends), 62, _WIDTH - 14, panel.log_x)
    y = svg.Scale(low, top * (1.2 if panel.log_y else 1.05), _HEIGHT - 40, 10, panel.log_y)
    body = [*_y_axis(y, panel), svg.x_axis(x, _HEIGHT - 40, count, panel.x_label)]
    for name, points in curves.items():
        seen = [(x(a), y(b)) for a, b in points if (b >= low or not panel.log_y) and a >= first]
        if len(seen) > 1:
            body.append(svg.path(seen, colours[name]))
    return body
