"""Scores per stage, the soup beside its ingredients, and what the model says before and after."""

from __future__ import annotations

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.charts import GREY, Dot, dot_plot, stage_colours
from lehr.report.data import ReportData, StageReport
from lehr.report.format import esc
from lehr.report.scores import Column, ScoreRecord, ScoreTable, SoupRow, soup_rows


def value_text(record: ScoreRecord, column: Column) -> str:
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    return f"{fmt.value(record.value, column.about)} {error}".rstrip()


def scores(data: ReportData) -> str:
    """The held-out table and its charts; other splits folded below. Nothing without scores."""
    splits = sorted({r.split for r in data.scores}, key=lambda s: (s != "held_out", s))
    if not splits:
        return ""
    html = ""
    for split in splits:
        table = data.table(split)
        block = _table(table) + _charts(table, stage_colours(data))
        html += block if split == splits[0] else markup.folded(f"Scores on the {split.replace('_', '-')} split", block)
    note = (
        "Value ± one standard error over the n examples of the task; where all or none were right, the one side of Wilson's "
        "interval. The best stage of each row is bold. Shares are in per cent; ↓ marks metrics of which less is better. Stages "
        "are in the order of the pipeline, and a dash means that the task does not apply."
    )
    name = splits[0].replace("_", "-")
    return markup.section(
        "scores",
        "Scores",
        html + markup.caption(note),
        f"Every stage is scored on the same {esc(name)} examples, which no stage has trained on.",
    )


def _table(table: ScoreTable) -> str:
    rows = []
    for column in table.columns:
        best = table.best(column)
        n = max(record.n for _, record in table.of(column))
        name = "" if column.about.baseline_of else esc(column.task.replace("_", " "))
        cells = [f"{name}<small>{esc(column.about.heading)}</small>", f"{n:,}"]
        for stage in table.stages:
            record = table.cells.get((stage, column))
            cells.append(_cell(record, column, stage in best) if record else '<span class="none">–</span>')
        rows.append(cells)
    return markup.table(["task", "n", *table.stages], rows, "scores")


def _cell(record: ScoreRecord, column: Column, best: bool) -> str:
    value = fmt.value(record.value, column.about)
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    error = f"<small>{esc(error)}</small>" if error else ""
    return f"<strong>{value}</strong>{error}" if best else f"{value}{error}"


def _charts(table: ScoreTable, colours: dict[str, str]) -> str:
    panels = []
    for column in table.of_models:
        best = table.best(column)
        dots = [Dot(s, r.value, r.stderr, value_text(r, column), colours[s], strong=s in best) for s, r in table.of(column)]
        dots += [
            Dot(f"{c.about.short}, {s}", r.value, r.stderr, value_text(r, c), GREY, hollow=True)
            for c in table.baselines(column)
            for s, r in table.of(c)
        ]
        share, title = column.about.is_share, column.task.replace("_", " ")
        chart = dot_plot(dots, label=f"{title} per stage", percent=share, domain=(0.0, 1.0) if share else None)
        panels.append(markup.panel(title, chart, column.about.heading))
    return markup.grid(panels, "three")


def soups(data: ReportData) -> list[tuple[str, str, str]]:
    """(anchor, name, section) for each soup; one empty one where there is none."""
    made = data.made_by("soup")
    if len(made) <= 1:
        html = _soup(data, made[0], "soup", "Soup against its ingredients") if made else ""
        return [("soup", "Soup", html)]
    anchors = [f"soup-{number}" for number in range(1, len(made) + 1)]
    titles = [f"{stage.name} against its ingredients" for stage in made]
    return [(a, s.name, _soup(data, s, a, title)) for a, s, title in zip(anchors, made, titles, strict=True)]


def _soup(data: ReportData, stage: StageReport, anchor: str, title: str) -> str:
    """One panel per held-out score: ingredients, their mean, the soup. Nothing where one of them was not scored."""
    table = data.table("held_out")
    ingredients = [p.name for p in data.parents_of(stage) if p.name in table.stages]
    rows = soup_rows(table, stage.name, ingredients)
    if not rows:
        return ""
    panels = [_soup_panel(row, stage_colours(data)) for row in rows]
    note = (
        f"n = {min(r.soup.n for r in rows):,} to {max(r.soup.n for r in rows):,} held-out examples; bars are one standard "
        "error of each score on its own. All models answer the same examples, so differences between them are known better "
        "than the bars suggest. The mean (hollow, dotted line) is of the ingredients' scores. Axes are zoomed to the data."
    )
    return markup.section(anchor, title, markup.grid(panels, "three") + markup.caption(note), _verdict(rows))


def _soup_panel(row: SoupRow, colours: dict[str, str]) -> str:
    c, name = row.column, row.soup.stage
    dots = [Dot(r.stage, r.value, r.stderr, value_text(r, c), colours[r.stage]) for r in row.ingredients]
    dots.append(Dot("their mean", row.mean, None, fmt.value(row.mean, c.about), "var(--muted)", hollow=True))
    dots.append(Dot(name, row.soup.value, row.soup.stderr, value_text(row.soup, c), colours[name], strong=True))
    chart = dot_plot(dots, label=f"{name} against its ingredients, {c.task}", percent=c.about.is_share, guide=row.mean)
    return markup.panel(c.task.replace("_", " "), chart, c.about.heading)


def _verdict(rows: list[SoupRow]) -> str:
    """In how many of the scores that have a better way the soup is no worse."""
    judged = [r for r in rows if r.column.about.better]
    over_mean = sum(r.gain_over_mean > -1e-9 for r in judged)  # a mean of equal scores is equal up to rounding
    over_best = sum(r.gain_over_best > -1e-9 for r in judged)
    text = f"The soup is the average of the weights of {len(rows[0].ingredients)} models."
    if judged:
        text += (
            f" It is no worse than the mean of its ingredients in {over_mean} of {len(judged)} held-out scores, and no worse "
            f"than the best ingredient, chosen per score with hindsight, in {over_best}."
        )
    return esc(text)


def conversations(data: ReportData) -> str:
    """Answers to the same prompt side by side, in the order of the stages. Nothing without any."""
    if not data.samples:
        return ""
    cards = []
    for sample in data.samples:
        expected = f'<p class="expected">expected: {esc(sample.expected)}</p>' if sample.expected else ""
        answers = "".join(_answer(stage, text) for stage, text in sample.answers.items())
        prompt = f'<p class="prompt">{esc(sample.prompt)}</p>{expected}'
        cards.append(f'<article class="talk">{prompt}<div class="answers">{answers}</div></article>')
    note = "The same prompts after each stage; answers are whole, without the space around them."
    return markup.section("conversations", "Before and after", "".join(cards) + markup.caption(note))


def _answer(stage: str, text: str) -> str:
    shown = esc(text.strip()) or "<em>nothing</em>"
    return f'<div class="answer"><h4>{esc(stage)}</h4><p>{shown}</p></div>'
