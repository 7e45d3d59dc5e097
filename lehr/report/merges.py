"""Merges of post-training: how they were made, what a search of their weights scored, and each beside its parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.report import format as fmt
from lehr.report.charts import Panel, stage_colours
from lehr.report.data import ReportData, StageReport
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
    known = [(found.name if (found := data.stage(digest)) else name) for digest, name in _merged(said)]
    rows = soup_rows(table, stage.name, known)
    search, searched = _search(said.get("search", {}))
    panels = [soup_panel(row, stage_colours(data), "parents") for row in rows]
    lede = judged_by(rows, "parents", "parent")
    return Merge(f"{stage.name}, merged of {len(known)} models", _how(said, known), rows, panels, lede, known, search, searched)


def _merged(said: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(map(str, said["merged"]), map(str, said["ingredients"]), strict=True))


def _how(said: dict[str, Any], parents: list[str]) -> str:
    """`linear: sft 0.25, sft-2 0.75; nearest common ancestor: soup.`"""
    settings = dict(said["settings"])
    weights = settings.pop("weights", None) or [None] * len(parents)
    named = ", ".join(name if w is None else f"{name} {w:g}" for name, w in zip(parents, weights, strict=True))
    rest = "".join(f", {key} {str(value).lower()}" for key, value in settings.items())
    return f"{fmt.words(str(said['method']))}: {named}{rest}; ancestor in common: {said['ancestor']['stage']}."


def _search(said: dict[str, Any]) -> tuple[list[tuple[list[str], str]], str]:
    if not said:
        return [], ""
    about = metric(str(said["metric"]))
    points = [([f"{w:.3f}" for w in point["weights"]], fmt.value(point["score"], about)) for point in said["points"]]
    top = points.pop(next(i for i, p in enumerate(said["points"]) if p["weights"] == said["best"]["weights"]))
    where = f"{fmt.words(str(said['task']))}, {about.heading}, {said['limit']:,} {said['split']} examples at most"
    return [top, *points], where
