"""The page: sections in reading order, one style sheet, no script, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.report import by_source, headline, learning, merges, plan, provenance, results, rewards, self_knowledge, speed
from lehr.report.charts import stage_colours
from lehr.report.data import ReportData
from lehr.report.rendering import rendered


@dataclass(frozen=True)
class Section:
    """`name` is that in the contents; `template` lays out `view`, which is empty where the run has nothing for it."""

    anchor: str
    name: str
    template: str
    view: Any


def _sections(data: ReportData) -> list[Section]:
    """In reading order."""
    known, talks = self_knowledge.self_knowledge(data), [s for s in data.samples if s.family != self_knowledge.FAMILY]
    return [
        Section("scores", "Scores", "scores.html", results.scores(data)),
        *([Section("by-source", "Texts by source", "by_source.html", texts)] if (texts := by_source.by_source(data)) else []),
        *(Section(anchor, name, "soup.html", soup) for anchor, name, soup in results.soups(data)),
        *(Section(anchor, name, "merge.html", merge) for anchor, name, merge in merges.merges(data)),
        *([Section("self-knowledge", "Self-knowledge", "self_knowledge.html", known)] if known else []),
        Section("conversations", "Before and after", "conversations.html", talks or None),
        Section("timeline", "Stages", "timeline.html", provenance.timeline(data)),
        Section("learning", "Pretraining", "pretraining.html", learning.pretraining(data)),
        Section("post-training", "Post-training", "post_training.html", learning.post_training(data)),
        Section("rewards", "Reward models", "rewards.html", rewards.rewards(data)),
        Section("speed", "Speed", "speed.html", speed.speed(data)),
        Section("data", "Data", "data.html", provenance.sources(data)),
        Section("lineage", "Lineage", "lineage.html", provenance.drawing(data)),
        Section("cost", "Time and energy", "cost.html", provenance.cost(data)),
        Section("plan", "Plan and reality", "plan.html", plan.planned_and_measured(data)),
        Section("reproduce", "Reproduce it", "reproduce.html", provenance.environment(data)),
    ]


def _report(data: ReportData, *, whole: bool) -> str:
    every = _sections(data)
    return rendered(
        "report.html",
        whole=whole,
        title=f"{data.run} · Lehr run report",
        data=data,
        colours=stage_colours(data),
        top=headline.headline(data),
        sections=[section for section in every if section.view is not None],
        absent=[section.name for section in every if section.view is None],
    )


def render_fragment(data: ReportData) -> str:
    """The report without a document around it, for a page that has its own: a Flyte Deck."""
    return _report(data, whole=False)


def render(data: ReportData) -> str:
    """The whole report as one HTML file."""
    return _report(data, whole=True)
