"""Curves: pretraining on one token axis, post-training in panels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lehr.report.charts import PALETTES, Panel, origin, stage_colours
from lehr.report.curves import Axes, Level, Series, curve_panel
from lehr.report.data import ReportData, StageReport
from lehr.report.inputs import SetReport
from lehr.runtime import metrics
from lehr.runtime.metrics import Metric

# Where next tokens are trained, every unit of weight is a token: only there has the loss a unit.
_LOSS = replace(metrics.metric("loss"), unit="nats/token", axis="log")
_PRETRAINING = (_LOSS, metrics.metric("grad_norm"), metrics.metric("learning_rate"))
_MOST_UNDECLARED = 4  # panels of names that nobody declared, a stage or section


def is_post_training(stage: StageReport) -> bool:
    return stage.phase == "post-training"


def offsets(data: ReportData) -> dict[str, float]:
    """Tokens that the model had seen before each pretraining stage, along its lineage."""
    seen: dict[str, float] = {}

    def start(stage: StageReport, trail: frozenset[str] = frozenset()) -> float:
        if stage.name not in seen:
            above = [p for p in data.parents_of(stage) if p.curves and not is_post_training(p) and p.name not in trail]
            ends = [start(p, trail | {stage.name}) + max(p.places()) for p in above]
            seen[stage.name] = max(ends, default=0.0)
        return seen[stage.name]

    for stage in data.stages:
        start(stage)
    return seen


@dataclass(frozen=True)
class TokenAxis:
    """That of pretraining: tokens that the model has seen. `siblings` begin where one model ends, so that their curves lie
    over one another."""

    stages: list[StageReport]
    colours: dict[str, str]
    begin: dict[str, float]
    siblings: list[StageReport]

    @classmethod
    def of(cls, data: ReportData, stages: list[StageReport]) -> TokenAxis:
        return cls(stages, stage_colours(data), offsets(data), _siblings(data, stages))

    def series(self, stage: StageReport, points: Sequence[tuple[float, float]]) -> Series:
        """Points of a stage's own axis on this one."""
        moved = [(place + self.begin[stage.name], value) for place, value in points]
        return Series(stage.name, self.colours[stage.name], moved, band=stage not in self.siblings)

    def metric(self, stage: StageReport, m: Metric) -> Series:
        """With the skipped steps of the loss."""
        series = self.series(stage, [(place, _scaled(value, m)) for place, value in stage.series(m.name)])
        if m.name == "loss":
            places = zip(stage.places(), stage.curves, strict=True)
            series.marks = [place + self.begin[stage.name] for place, point in places if point.get("skipped")]
        return series


@dataclass(frozen=True)
class Pretraining:
    """`skipped` counts steps; `steady` are stages that recorded their stability."""

    legend: list[tuple[str, str]]
    panels: list[Panel]
    has_siblings: bool
    skipped: int
    steady: list[StageReport]


def pretraining(data: ReportData) -> Pretraining | None:
    """Every stage that trains before post-training, over the tokens that the model has seen. Nothing without curves."""
    stages = [s for s in data.stages if s.curves and not is_post_training(s)]
    if not stages:
        return None
    axis = TokenAxis.of(data, stages)
    panels = [_pretraining_panel(m, axis) for m in _PRETRAINING]
    zoomed = [axis.metric(s, _LOSS) for s in axis.siblings]
    if any(s.points for s in zoomed):
        panels.insert(1, curve_panel("Loss of the anneals alone", zoomed, Axes("Loss of the anneals", "tokens seen"), "zoomed"))
    on_the_way = _drawn(stages, leave_out={m.name for m in _PRETRAINING})
    panels += [_on_the_way_panel(m, data, axis) for m in on_the_way]
    panels += [_source_panel(m, axis) for m in on_the_way]
    skipped = sum(1 for s in stages for p in s.curves if p.get("skipped"))
    legend = [(s.name, axis.colours[s.name]) for s in stages]
    return Pretraining(legend, panels, bool(axis.siblings), skipped, [s for s in data.stages if s.stability])


def _siblings(data: ReportData, stages: list[StageReport]) -> list[StageReport]:
    """Those of `stages` that continue the same model as another one of them: anneals."""
    continued = Counter(origin(data, s) for s in stages)
    return [s for s in stages if continued[origin(data, s)] > 1]


def _drawn(stages: list[StageReport], leave_out: set[str] | frozenset[str] = frozenset()) -> list[Metric]:
    """What a log holds that has a panel, in the order of the declarations; of undeclared names a few."""
    found = {key for s in stages for point in s.curves for key, value in point.items() if value is not None}
    wanted = [m for m in metrics.ordered(found - leave_out) if m.panel]
    undeclared = [m for m in wanted if metrics.find(m.name) is None]
    return [m for m in wanted if m not in undeclared[_MOST_UNDECLARED:]]


def _pretraining_panel(m: Metric, axis: TokenAxis) -> Panel:
    title = m.heading[0].upper() + m.heading[1:]
    return curve_panel(title, [axis.metric(s, m) for s in axis.stages], _axes(m, "tokens seen"))


def _axes(m: Metric, x_label: str, label: str = "") -> Axes:
    return Axes(label or m.heading, x_label, log=m.axis == "log", zero=m.axis == "zero", percent=m.is_share)


def _on_the_way_panel(m: Metric, data: ReportData, axis: TokenAxis) -> Panel:
    """A score that was measured while training, with what n-grams reach that read as much as one of the models."""
    levels = _levels(data, m)
    note = "while training" + ("; dashed: n-grams on the tokens of that model" if levels else "")
    return curve_panel(m.heading, [axis.metric(s, m) for s in axis.stages], _axes(m, "tokens seen"), note, levels)


def _source_panel(m: Metric, axis: TokenAxis) -> Panel:
    """A score that was measured while training, a line for each source, along one way through the stages: of siblings the
    first."""
    way = [s for s in axis.stages if s not in axis.siblings[1:]]
    names = sorted({key.partition("@")[2] for s in way for p in s.curves for key in p if key.startswith(f"{m.name}@")})
    series = []
    for number, name in enumerate(names):
        points = [point for s in way for point in axis.series(s, s.series(f"{m.name}@{name}")).points]
        series.append(Series(name, f"var(--c-post-{number % PALETTES['post'] + 1})", points, band=False))
    along, legend = f"along {', '.join(s.name for s in way)}", [(s.name, s.colour) for s in series]
    return curve_panel(f"{m.heading}, by source", series, _axes(m, "tokens seen"), along, legend=legend)


def _levels(data: ReportData, m: Metric) -> list[Level]:
    """The baselines of a score on the texts that were scored while training."""
    found = [r for r in data.scores if metrics.metric(r.metric).baseline_of == m.name]
    return [Level(f"{metrics.metric(r.metric.removeprefix(metrics.DEV)).short}, {r.stage}", r.value) for r in found]


def _scaled(value: float, m: Metric) -> float:
    """As the axis has it: shares in per cent."""
    return 100 * value if m.is_share else value


@dataclass(frozen=True)
class PostTraining:
    """Panels of a stage: of its objective, and of the optimiser and the weights, which the page folds."""

    objective: list[Panel]
    optimiser: list[Panel]


@dataclass(frozen=True)
class PostTrainingView:
    """What steps of post-training learned from, by stage and set, and their panels by stage."""

    sets: dict[str, dict[str, SetReport]]
    steps: dict[str, PostTraining]


def post_training(data: ReportData) -> PostTrainingView | None:
    """By stage: whatever the loop recorded, undeclared metrics behind declared ones."""
    colours = stage_colours(data)
    found = {}
    for s in data.stages:
        if s.curves and is_post_training(s):
            panels = [(m, _post_panel(s, m, colours[s.name])) for m in _drawn([s])]
            folded = [panel for m, panel in panels if m.order or m.name.endswith("_norm")]
            found[s.name] = PostTraining([panel for _, panel in panels if panel not in folded], folded)
    return PostTrainingView(data.sets, found) if found or data.sets else None


def _post_panel(stage: StageReport, m: Metric, colour: str) -> Panel:
    points = []
    for i, point in enumerate(stage.curves):
        value = point.get(m.name)
        if value is not None and math.isfinite(value):
            points.append((float(point.get("step") or i + 1), _scaled(value, m)))
    axes = replace(_axes(m, "step", f"{stage.name}: {m.heading}"), width=340, height=190)
    return curve_panel(m.heading, [Series(stage.name, colour, points)], axes)
