"""Reward models on held-out pairs, and what more answers to a prompt bring."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.report.charts import GREY, Panel, stage_colours
from lehr.report.curves import Axes, Series, curve_panel
from lehr.report.data import ReportData
from lehr.report.judgements import BestOfPoint, RewardReport


@dataclass(frozen=True)
class RewardsView:
    """By stage. `curves` are of the stages that sampled several answers to each prompt."""

    rewards: dict[str, RewardReport]
    curves: dict[str, list[BestOfPoint]]
    calibration: list[Panel]
    best: list[Panel]


def rewards(data: ReportData) -> RewardsView | None:
    """Nothing for a run without reward models and without best-of-N."""
    if not data.rewards and not data.best_of_n:
        return None
    colours = stage_colours(data)
    sure = [_calibration(name, r, colours.get(name, GREY)) for name, r in data.rewards.items() if r.calibration]
    best = [panel for name, points in data.best_of_n.items() for panel in _bests(name, points, colours.get(name, GREY))]
    return RewardsView(data.rewards, data.best_of_n, sure, best)


def _calibration(name: str, reward: RewardReport, colour: str) -> Panel:
    found = [(100 * b.expected, 100 * b.observed) for b in reward.calibration]
    lines = [Series("as sure as right", GREY, [(50.0, 50.0), (100.0, 100.0)], dash="3 3"), Series(name, colour, found)]
    axes = Axes(f"{name}: share in the right order", "% of the order's probability", percent=True, width=340, height=190)
    return curve_panel(f"{name}: pairs in the right order, %", lines, axes)


def _bests(name: str, points: list[BestOfPoint], colour: str) -> list[Panel]:
    right = [(float(p.n), 100 * p.verified) for p in points if p.verified is not None]
    scores = [(float(p.n), p.score) for p in points if p.score is not None]
    label = "answers to a prompt"
    panels = []
    if right:
        axes = Axes(f"{name}: verified", label, percent=True, width=340, height=190)
        panels.append(curve_panel(f"{name}: the best one's verified accuracy, %", [Series(name, colour, right)], axes))
    if scores:
        axes = Axes(f"{name}: score", label, width=340, height=190)
        panels.append(curve_panel(f"{name}: the best one's score", [Series(name, colour, scores)], axes))
    return panels
