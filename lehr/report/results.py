"""Scores per stage, and the soup beside its ingredients."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.evals.held_out import often_opened
from lehr.report import format as fmt
from lehr.report.charts import GREY, Dot, Panel, dot_plot, stage_colours
from lehr.report.contamination import Flagged, flagged
from lehr.report.data import ReportData, StageReport
from lehr.report.scores import Column, ScoreRecord, ScoreTable, SoupRow, soup_rows


@dataclass(frozen=True)
class Split:
    """All scores on one split, as a table and as charts, and which of their examples stand in training documents."""

    name: str
    table: ScoreTable
    panels: list[Panel]
    flagged: Flagged | None
    opened: Opened | None = None


@dataclass(frozen=True)
class Opened:
    """How often held-out examples were opened: in a sentence each, and by model: its name and digest, the tasks, how often, the
    first and last time, by whom."""

    ledes: list[str]
    rows: list[list[str]]


def _shown(record: ScoreRecord, column: Column) -> str:
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    return f"{fmt.value(record.value, column.about)} {error}".rstrip()


def scores(data: ReportData) -> list[Split] | None:
    """The held-out split first. Nothing without scores."""
    splits = sorted({r.split for r in data.scores}, key=lambda s: (s != "held_out", s))
    tables = [(split.replace("_", "-"), data.table(split)) for split in splits]
    colours = stage_colours(data)
    return [
        Split(
            n, t, [_score_panel(c, t, colours) for c in t.of_models], flagged(t), _opened(data) if n == "held-out" else None
        )
        for n, t in tables
    ] or None  # fmt: skip


def _opened(data: ReportData) -> Opened | None:
    """Nothing for scores of versions that did not write it down."""
    rows = []
    for digest in dict.fromkeys(o.digest for o in data.openings):
        own = [o for o in data.openings if o.digest == digest]
        times = {o.task: sum(other.task == o.task for other in own) for o in own}
        tasks = ", ".join(f"{fmt.words(task)} ({n} times)" if n > 1 else fmt.words(task) for task, n in times.items())
        who = ", ".join(dict.fromkeys(o.who for o in own))
        rows.append([own[0].model, digest[:12], tasks, own[0].when, own[-1].when, who])
    return Opened(often_opened(data.openings), rows) if rows else None


def _score_panel(column: Column, table: ScoreTable, colours: dict[str, str]) -> Panel:
    best = table.best(column)
    dots = [Dot(s, r.value, r.stderr, _shown(r, column), colours[s], strong=s in best) for s, r in table.of(column)]
    dots += [
        Dot(f"{c.about.short}, {s}", r.value, r.stderr, _shown(r, c), GREY, hollow=True)
        for c in table.baselines(column)
        for s, r in table.of(c)
    ]
    share, title = column.about.is_share, fmt.words(column.task)
    chart = dot_plot(dots, label=f"{title} per stage", percent=share, domain=(0.0, 1.0) if share else None)
    return Panel(title, chart, table.heading(column))


@dataclass(frozen=True)
class Soup:
    """A soup beside its ingredients, a panel for each row."""

    title: str
    rows: list[SoupRow]
    panels: list[Panel]
    lede: str


def soups(data: ReportData) -> list[tuple[str, str, Soup | None]]:
    """(anchor, name, view) for each soup; an empty one where there is none."""
    made = data.made_by("soup")
    if len(made) <= 1:
        return [("soup", "Soup", _soup(data, made[0], "Soup against its ingredients") if made else None)]
    views = [_soup(data, stage, f"{stage.name} against its ingredients") for stage in made]
    return [(f"soup-{number}", s.name, view) for number, (s, view) in enumerate(zip(made, views, strict=True), 1)]


def _soup(data: ReportData, stage: StageReport, title: str) -> Soup | None:
    """One panel per held-out score: ingredients, their mean, the soup. Nothing where one of them was not scored."""
    table = data.table("held_out")
    ingredients = [p.name for p in data.parents_of(stage) if p.name in table.stages]
    rows = soup_rows(table, stage.name, ingredients)
    if not rows:
        return None
    return Soup(title, rows, [soup_panel(row, stage_colours(data)) for row in rows], _verdict(rows))


def soup_panel(row: SoupRow, colours: dict[str, str], of: str = "ingredients") -> Panel:
    """One score of a merged model beside those of what it was merged `of`."""
    c, name = row.column, row.soup.stage
    dots = [Dot(r.stage, r.value, r.stderr, _shown(r, c), colours[r.stage]) for r in row.ingredients]
    dots.append(Dot("their mean", row.mean, None, fmt.value(row.mean, c.about), GREY, hollow=True))
    dots.append(Dot(name, row.soup.value, row.soup.stderr, _shown(row.soup, c), colours[name], strong=True))
    chart = dot_plot(dots, label=f"{name} against its {of}, {c.task}", percent=c.about.is_share, guide=row.mean)
    return Panel(fmt.words(c.task), chart, c.about.heading)


def _verdict(rows: list[SoupRow]) -> str:
    text = f"The soup is the average of the weights of {len(rows[0].ingredients)} models."
    return f"{text} {judged_by(rows, 'ingredients', 'ingredient')}".rstrip()


def judged_by(rows: list[SoupRow], many: str, one: str) -> str:
    """In how many of the scores that have a better way it is no worse; nothing without such scores."""
    judged = [r for r in rows if r.column.about.better]
    over_mean = sum(r.gain_over_mean > -1e-9 for r in judged)  # a mean of equal scores is equal up to rounding
    over_best = sum(r.gain_over_best > -1e-9 for r in judged)
    if not judged:
        return ""
    return (
        f"It is no worse than the mean of its {many} in {over_mean} of {len(judged)} held-out scores, and no worse "
        f"than the best {one}, chosen per score with hindsight, in {over_best}."
    )
