"""Curves: pretraining on one token axis, post-training in panels."""

from __future__ import annotations

import math

from lehr.report import markup
from lehr.report.charts import Series, curve_chart, stage_colours
from lehr.report.data import ReportData, StageReport
from lehr.report.format import esc

_CHAT = ("sft", "dpo", "rlvr", "ppo", "grpo", "reward")
_PRETRAINING: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("Loss, nats per token", ("loss",), False),
    ("Gradient norm before clipping", ("grad_norm",), True),
    ("Learning rate", ("lr", "learning_rate"), False),
)
_POST_NAMES = {
    "loss": "loss",
    "reward": "mean reward",
    "kl": "KL from reference, nats",
    "margin": "reward margin, chosen − rejected",
    "accuracy": "preference accuracy",
    "preference_accuracy": "preference accuracy",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "learning_rate": "learning rate",
}
_NOT_PANELS = {"step", "tokens", "tokens_per_second", "step_seconds", "skipped", "not_finite", "flops"}
_NOT_PANELS |= {"checkpoint_seconds", "checkpoint_bytes", "seconds", "cross_entropy"}
_NOT_PANELS |= {"rewound_from", "skip_first", "skip_last"}
_NOT_PANELS |= {f"grad_norm_{kind}" for kind in ("embedding", "attention", "mlp", "norms", "head")}
_MOST_PANELS, _MOST_IN_LOOP = 6, 4


def is_post_training(stage: StageReport) -> bool:
    return stage.name.split("-")[0] in _CHAT


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


def pretraining(data: ReportData) -> str:
    """Stage 1, ramp and anneals over the tokens that the model has seen."""
    stages = [s for s in data.stages if s.curves and not is_post_training(s)]
    if not stages:
        return markup.section("learning", "Pretraining", markup.missing("No pretraining curves are recorded."))
    colours, begin = stage_colours(data), offsets(data)
    panels = []
    for title, keys, log in _PRETRAINING:
        series = [_series(s, keys, colours[s.name], begin[s.name]) for s in stages]
        chart = curve_chart(series, label=title, x_label="tokens seen", log=log, zero="rate" in title)
        if chart:
            panels.append(markup.panel(title, chart))
    anneals = [s for s in stages if s.name.startswith("anneal")]
    zoomed = [_series(s, ("loss",), colours[s.name], begin[s.name]) for s in anneals]
    if len(anneals) > 1 and any(s.points for s in zoomed):
        chart = curve_chart(zoomed, label="Loss of the anneals", x_label="tokens seen")
        panels.insert(1, markup.panel("Loss of the anneals alone", chart, "zoomed"))
    panels += _in_loop(stages, colours, begin)
    skipped = sum(1 for s in stages for p in s.curves if p.get("skipped"))
    branch = " Anneals start where their parent ends and differ only in the order of their data." if len(anneals) > 1 else ""
    marks = (
        f" Small triangles mark the {skipped} skipped step{'s' if skipped != 1 else ''}."
        if skipped
        else " No step was skipped."
    )
    note = "Lines are means over consecutive steps, bands their lowest to highest value." + branch + marks
    html = markup.legend([(s.name, colours[s.name]) for s in stages]) + markup.grid(panels) + markup.caption(note)
    html += _steadiness(data)
    return markup.section("learning", "Pretraining", html)


def _steadiness(data: ReportData) -> str:
    """Spike scores, refused updates and batches that were left out, of every stage that recorded them."""
    rows = []
    for stage in data.stages:
        if s := stage.stability:
            left_out = ", ".join(f"{first}–{last}" for first, last in s["left_out"]) or "none"
            scores = [f"{s[f'spike_score_{of}_percent']:.2f}" for of in ("loss", "grad_norm")]
            rows.append([esc(stage.name), f"{s['steps']:,}", f"{s['skipped_steps']:,}", *scores, esc(left_out)])
    if not rows:
        return ""
    head = ["stage", "steps", "refused", "spike score of the loss, %", "of the gradient norm, %", "batches left out"]
    note = (
        "Spike score: the share of values at least seven standard deviations from the mean of the 1,000 before (OLMo 2, "
        "section 3.2). Batches are left out by a rewind, after bad steps in a row."
    )
    return markup.table(head, rows) + markup.caption(note)


def _in_loop(stages: list[StageReport], colours: dict[str, str], begin: dict[str, float]) -> list[str]:
    """Panels of what else the loop wrote down while pretraining: its own evaluations, a few points each."""
    drawn = {key for _, keys, _ in _PRETRAINING for key in keys}
    found = {key for s in stages for point in s.curves for key, value in point.items() if value is not None}
    panels = []
    for key in sorted(found - drawn - _NOT_PANELS)[:_MOST_IN_LOOP]:
        title = key.replace("_", " ")
        chart = curve_chart(
            [_series(s, (key,), colours[s.name], begin[s.name]) for s in stages], label=title, x_label="tokens seen"
        )
        if chart:
            panels.append(markup.panel(title, chart, "while training"))
    return panels


def _series(stage: StageReport, keys: tuple[str, ...], colour: str, offset: float) -> Series:
    points = [(place + offset, value) for place, value in stage.series(*keys)]
    skipped = [place + offset for place, point in zip(stage.places(), stage.curves, strict=True) if point.get("skipped")]
    return Series(stage.name, colour, points, skipped if keys == ("loss",) else [])


def post_training(data: ReportData) -> str:
    """A row of panels per stage: whatever the loop recorded, in a fixed order, unknown metrics last."""
    stages = [s for s in data.stages if s.curves and is_post_training(s)]
    if not stages:
        return markup.section("post-training", "Post-training", markup.missing("No post-training curves are recorded."))
    colours = stage_colours(data)
    blocks = []
    for stage in stages:
        panels = [_post_panel(stage, key, colours[stage.name]) for key in _panel_keys(stage)]
        blocks.append(f'<h3 class="stage-name">{esc(stage.name)}</h3>{markup.grid([p for p in panels if p], "three")}')
    note = (
        "Panels per stage, over its optimiser steps. Lines are means over consecutive steps where there are many, "
        "bands their lowest to highest value."
    )
    return markup.section("post-training", "Post-training", "".join(blocks) + markup.caption(note))


def _post_panel(stage: StageReport, key: str, colour: str) -> str:
    points = []
    for i, point in enumerate(stage.curves):
        value = point.get(key)
        if value is not None and math.isfinite(value):
            points.append((float(point.get("step") or i + 1), value))
    title = _POST_NAMES.get(key, key.replace("_", " "))
    series = [Series(stage.name, colour, points)]
    log = key == "grad_norm"
    chart = curve_chart(
        series, label=f"{stage.name}: {title}", x_label="step", log=log, zero="rate" in title, width=340, height=190
    )
    return markup.panel(title, chart) if chart else ""


def _panel_keys(stage: StageReport) -> list[str]:
    found = {key for point in stage.curves for key, value in point.items() if value is not None} - _NOT_PANELS
    known = [key for key in _POST_NAMES if key in found]
    late = [key for key in known if key in ("grad_norm", "lr", "learning_rate")]
    early = [key for key in known if key not in late]
    return (early + sorted(found - set(known)) + late)[:_MOST_PANELS]
