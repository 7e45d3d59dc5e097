"""Scores of texts by source and domain: as tables, as charts, and without the texts that stand in training documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lehr.evals.parts import OVER, mean_of
from lehr.evals.task import Mean, Part
from lehr.report import format as fmt
from lehr.report.charts import Dot, Panel, dot_plot, stage_colours
from lehr.report.data import ReportData
from lehr.report.scores import Column, ScoreRecord, ScoreTable
from lehr.runtime.metrics import Metric
from lehr.runtime.text import visible

_MEANS = {"sources": "mean, each source counting once", "domains": "mean, each domain counting once"}
PANELS = 24  # sources that are drawn
_LABEL = 15  # characters of a source's name that a chart of many has room for


@dataclass(frozen=True)
class Measured:
    """One metric. `sources`: a row's name, number of texts, score of each stage; a source's mean over its domains stands behind
    it; last are the means over all sources and over all domains, and the score of all texts. `domains`: source, domain, texts,
    scores. `without`: source and domain, stage, score, score without the texts that stand in training documents, their
    number."""

    heading: str
    sources: list[list[str]]
    domains: list[list[str]]
    without: list[list[str]]


@dataclass(frozen=True)
class BySource:
    """One task's texts. `counts` says how many sources and domains there are, `undrawn` how many sources are in no chart."""

    title: str
    counts: str
    stages: list[str]
    measured: list[Measured]
    panels: list[Panel]
    undrawn: int


def one_line(name: str) -> str:
    """A source's or domain's name, which is somebody else's text, as it is shown."""
    return " ".join(visible(name).split())


def by_source(data: ReportData) -> list[BySource] | None:
    """The held-out split first. Nothing where no texts have sources."""
    table, colours = data.table(), stage_colours(data)
    found: dict[tuple[str, str], list[Column]] = {}
    for column in table.columns:
        if any(record.parts for _, record in table.of(column)):
            found.setdefault((column.split, column.task), []).append(column)
    ordered = sorted(found.items(), key=lambda one: one[0][0] != "held_out")
    return [_task(columns, table, colours) for _, columns in ordered] or None


def _task(columns: Sequence[Column], table: ScoreTable, colours: dict[str, str]) -> BySource:
    first = table.of(columns[0])
    stages = [stage for stage, _ in first]
    parts = first[-1][1].parts
    sources, domains = sum(not p.domain for p in parts), sum(bool(p.domain) for p in parts)
    counts = f"{sources:,} source{'s' if sources != 1 else ''}" + (f", {domains:,} domains" if domains else "")
    panels = _panels(columns[0], first, colours)
    title = f"{fmt.words(columns[0].task)}, {fmt.words(columns[0].split)}"
    return BySource(
        title, counts, stages, [_measured(c, table) for c in columns], panels[:PANELS], max(0, len(panels) - PANELS)
    )


def _measured(column: Column, table: ScoreTable) -> Measured:
    of, found = column.about, table.of(column)
    by = [{(p.source, p.domain): p for p in record.parts} for _, record in found]
    sources, domains = list[list[str]](), list[list[str]]()
    for key, part in _every(found):
        cells = [_shown(one.get(key), of) for one in by]
        if part.domain:
            domains.append([one_line(part.source), one_line(part.domain), f"{part.n:,}", *cells])
            continue
        sources.append([one_line(part.source), f"{part.n:,}", *cells])
        if part.domains > 1:
            means = [_shown(one[key].mean if key in one else None, of) for one in by]
            sources.append([f"{one_line(part.source)}, mean over {part.domains:,} domains", "", *means])
    for over in OVER:
        metric = mean_of(column.metric, over)
        records = dict(table.of(Column(column.split, column.task, metric)))
        if records:
            sources.append([_MEANS[over], "", *(_shown(records.get(stage), of) for stage, _ in found)])
    sources.append(["all texts together", f"{found[-1][1].n:,}", *(_shown(record, of) for _, record in found)])
    return Measured(of.heading, sources, domains, [row for stage, record in found for row in _without(stage, record, of)])


def _every(found: Sequence[tuple[str, ScoreRecord]]) -> Iterator[tuple[tuple[str, str], Part]]:
    """The parts that any stage has, in the order of their names."""
    parts = {(part.source, part.domain): part for _, record in found for part in record.parts}
    yield from sorted(parts.items())


def _shown(one: Part | Mean | ScoreRecord | None, of: Metric) -> str:
    return f"{fmt.value(one.value, of)} {fmt.error(one.value, one.stderr, 0, of)}".rstrip() if one else "–"


def _without(stage: str, record: ScoreRecord, of: Metric) -> Iterator[list[str]]:
    for part in record.parts:
        if part.kept:
            left = part.without
            clean = f"{fmt.value(left.value, of)} {fmt.error(left.value, left.stderr, left.n, of)}".rstrip() if left else ""
            name = ", ".join(one_line(name) for name in (part.source, part.domain) if name)
            yield [name, stage, _shown(part, of), clean or "none is left", f"{left.n:,}" if left else "0"]


def _panels(column: Column, found: Sequence[tuple[str, ScoreRecord]], colours: dict[str, str]) -> list[Panel]:
    """A panel for each source with a dot for each stage; of a single stage one panel with a dot for each source."""
    of = column.about
    by = [(stage, {p.source: p.mean or p for p in record.parts if not p.domain}) for stage, record in found]
    names = dict.fromkeys(part.source for (_, domain), part in _every(found) if not domain)
    if len(found) == 1:
        stage, parts = by[0]
        shown = list(parts.items())[:PANELS]
        dots = [Dot(_short(name), one.value, one.stderr, _shown(one, of), colours[stage]) for name, one in shown]
        return [Panel(stage, dot_plot(dots, label=f"{column.task} by source"), of.heading)] if dots else []
    panels = []
    for name in names:
        of_stages = [(stage, parts[name]) for stage, parts in by if name in parts]
        dots = [Dot(stage, one.value, one.stderr, _shown(one, of), colours[stage]) for stage, one in of_stages]
        panels.append(Panel(one_line(name), dot_plot(dots, label=f"{one_line(name)} per stage"), of.heading))
    return panels


def _short(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= _LABEL else f"{shown[: _LABEL - 1]}…"
