"""Scores per stage, the soup beside its ingredients, and what the model says before and after."""

from __future__ import annotations

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.charts import Dot, dot_plot, stage_colours
from lehr.report.data import ReportData
from lehr.report.format import esc
from lehr.report.scores import Column, ScoreRecord, ScoreTable, SoupRow, soup_rows


def value_text(record: ScoreRecord, column: Column) -> str:
    error = f" ±{fmt.score(record.stderr, column.is_share)}" if record.stderr is not None else ""
    return fmt.score(record.value, column.is_share) + error


def scores(data: ReportData) -> str:
    """The held-out table and its charts; other splits folded below."""
    splits = sorted({r.split for r in data.scores}, key=lambda s: (s != "held_out", s))
    if not splits:
        return markup.section("scores", "Scores", markup.missing("No scores are recorded."))
    html = ""
    for split in splits:
        table = data.table(split)
        block = _table(table) + _charts(table, stage_colours(data))
        html += block if split == splits[0] else markup.folded(f"Scores on the {split.replace('_', '-')} split", block)
    note = (
        "Value ± one standard error over the n examples of the task; the best stage of each row is bold. Shares are in "
        "per cent; ↓ marks metrics of which less is better. Stages are in the order of the pipeline, and a dash means that "
        "the task does not apply."
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
        cells = [f"{esc(column.task.replace('_', ' '))}<small>{esc(column.described)}</small>", f"{n:,}"]
        for stage in table.stages:
            record = table.cells.get((stage, column))
            cells.append(_cell(record, column, stage in best) if record else '<span class="none">–</span>')
        rows.append(cells)
    return markup.table(["task", "n", *table.stages], rows, "scores")


def _cell(record: ScoreRecord, column: Column, best: bool) -> str:
    value = fmt.score(record.value, column.is_share)
    error = f"<small>±{fmt.score(record.stderr, column.is_share)}</small>" if record.stderr is not None else ""
    return f"<strong>{value}</strong>{error}" if best else f"{value}{error}"


def _charts(table: ScoreTable, colours: dict[str, str]) -> str:
    panels = []
    for column in table.columns:
        best = table.best(column)
        dots = [Dot(s, r.value, r.stderr, value_text(r, column), colours[s], strong=s in best) for s, r in table.of(column)]
        domain = (0.0, 1.0) if column.is_share else None
        title = column.task.replace("_", " ")
        panels.append(
            markup.panel(
                title, dot_plot(dots, label=f"{title} per stage", percent=column.is_share, domain=domain), column.described
            )
        )
    return markup.grid(panels, "three")


def soup(data: ReportData) -> str:
    """One panel per held-out score: ingredients, their mean, the soup."""
    table = data.table("held_out")
    stage = data.stage("soup")
    listed = [p.name for p in data.parents_of(stage)] if stage else []
    ingredients = [name for name in listed if name in table.stages]
    rows = soup_rows(table, "soup", ingredients)
    if not rows:
        return markup.section(
            "soup",
            "Soup against its ingredients",
            markup.missing("No held-out scores of a soup and all of its ingredients are recorded."),
        )
    panels = [_soup_panel(row, stage_colours(data)) for row in rows]
    note = (
        f"n = {min(r.soup.n for r in rows):,} to {max(r.soup.n for r in rows):,} held-out examples; bars are one standard "
        "error of each score on its own. All models answer the same examples, so differences between them are known better "
        "than the bars suggest. The mean (hollow, dotted line) is of the ingredients' scores. Axes are zoomed to the data."
    )
    return markup.section(
        "soup", "Soup against its ingredients", markup.grid(panels, "three") + markup.caption(note), _verdict(rows)
    )


def _soup_panel(row: SoupRow, colours: dict[str, str]) -> str:
    c = row.column
    dots = [Dot(r.stage, r.value, r.stderr, value_text(r, c), colours[r.stage]) for r in row.ingredients]
    dots.append(Dot("their mean", row.mean, None, fmt.score(row.mean, c.is_share), "var(--muted)", hollow=True))
    dots.append(Dot("soup", row.soup.value, row.soup.stderr, value_text(row.soup, c), "var(--c-soup)", strong=True))
    return markup.panel(
        c.task.replace("_", " "),
        dot_plot(dots, label=f"soup against its ingredients, {c.task}", percent=c.is_share, guide=row.mean),
        c.described,
    )


def _verdict(rows: list[SoupRow]) -> str:
    over_mean = sum(r.gain_over_mean > -1e-9 for r in rows)  # a mean of equal scores is equal up to rounding
    over_best = sum(r.gain_over_best > -1e-9 for r in rows)
    k = len(rows[0].ingredients)
    text = (
        f"The soup is the average of the weights of {k} anneals. It is no worse than the mean of its ingredients in "
        f"{over_mean} of {len(rows)} held-out scores, and no worse than the best ingredient, chosen per score with hindsight, "
        f"in {over_best}."
    )
    return esc(text)


def conversations(data: ReportData) -> str:
    """Answers to the same prompt side by side, in the order of the stages."""
    if not data.samples:
        return markup.section("conversations", "Before and after", markup.missing("No sample conversations are recorded."))
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
