"""Merges of post-training: how they were made, what a search of their weights scored, and each beside its parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.report import format as fmt
from lehr.report.charts import Panel, stage_colours
from lehr.report.data import ReportData, StageReport
from lehr.report.merge_words import how
from lehr.report.results import judged_by, soup_panel
from lehr.report.scores import SoupRow, soup_rows
from lehr.runtime.metrics import metric


@dataclass(frozen=True)
class Merge:
    """A merge beside its parents; `how` is a sentence, `search` what a search of the weights scored, with the weights as text,
    the best one first, `rows` and `panels` empty where not all were scored."""

    title: str
    how: str
    rows: list[SoupRow]
    panels: list[Panel]
    lede: str
    parents: list[str]
    search: list[tuple[list[str], str]]
    searched: str


def merges(data: ReportData) -> list[tuple[str, str, Merge]]:
    """(anchor, name, view) for each merge."""
    made = [stage for stage in data.stages if stage.merge]
    return [(f"merge-{number}", stage.name, _merge(data, stage)) for number, stage in enumerate(made, 1)]


def _merge(data: ReportData, stage: StageReport) -> Merge:
    said, table = stage.merge, data.table("held_out")
    known = [_named(data, digest, name) for digest, name in _merged(said)]
    shared = _named(data, str(said["ancestor"]["digest"]), str(said["ancestor"]["stage"]))
    rows = soup_rows(table, stage.name, known)
    search, searched = _search(said.get("search", {}))
    panels = [soup_panel(row, stage_colours(data), "parents") for row in rows]
    lede = judged_by(rows, "parents", "parent")
    made = f"{how(said, known)}. Ancestor in common: {shared}."
    return Merge(f"{stage.name}, merged of {len(known)} models", made, rows, panels, lede, known, search, searched)


def _named(data: ReportData, digest: str, name: str) -> str:
    """A model's name in this report, which of another run's may not be its own."""
    return found.name if (found := data.stage(digest)) else name


def _merged(said: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(map(str, said["merged"]), map(str, said["ingredients"]), strict=True))


def _search(said: dict[str, Any]) -> tuple[list[tuple[list[str], str]], str]:
    if not said:
        return [], ""
    about = metric(str(said["metric"]))
    points = [([f"{w:.3f}" for w in point["weights"]], fmt.value(point["score"], about)) for point in said["points"]]
    top = points.pop(next(i for i, p in enumerate(said["points"]) if p["weights"] == said["best"]["weights"]))
    where = f"{fmt.words(str(said['task']))}, {about.heading}, {said['limit']:,} {said['split']} examples at most"
    return [top, *points], where
