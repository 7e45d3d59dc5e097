"""Scores as rich tables: rows are stages, columns are task and metric, the best of each column in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from lehr.report import format as fmt
from lehr.report.scores import Column, ScoreRecord, ScoreTable, score_matrix

_LEAST = 11  # the least width of a column: "exact match"
_BETWEEN, _EDGES = 3, 2  # characters between two columns, and at both sides of a table together


def score_table(records: Sequence[Mapping[str, object] | ScoreRecord], title: str = "") -> Table:
    """One table of all records, `value ± stderr`; shares in per cent. For narrow terminals use `score_tables`."""
    table = score_matrix(records)
    return _rich_table(table, table.columns, title)


def score_tables(records: Sequence[Mapping[str, object] | ScoreRecord], width: int, stages: Sequence[str] = ()) -> list[Table]:
    """Tables of at most `width` characters, held-out scores first; rows in the order of `stages`."""
    table = score_matrix(records, stages)
    room = width - max(map(len, [*table.stages, "stage"])) - _EDGES
    tables = []
    for split in sorted({c.split for c in table.columns}, key=lambda s: (s != "held_out", s)):
        columns = [c for c in table.columns if c.split == split]
        for number, part in enumerate(_packed(table, columns, room)):
            title = f"{split.replace('_', '-').capitalize()} scores" if number == 0 else ""
            tables.append(_rich_table(table, part, title, split_in_header=False))
    return tables


def _packed(table: ScoreTable, columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in order, divided into rows of at most `room` characters; every row has at least one column."""
    rows: list[list[Column]] = []
    left = 0
    for column in columns:
        needed = _width(table, column, _head(table, column)) + _BETWEEN
        if not rows or needed > left:
            rows.append([])
            left = room
        rows[-1].append(column)
        left -= needed
    return rows


def _head(table: ScoreTable, column: Column) -> list[str]:
    return [column.task.replace("_", " "), *_measure(table, column)]


def _width(table: ScoreTable, column: Column, head: Sequence[str]) -> int:
    """The width at which neither a word of the heading nor a value is cut."""
    words = [word for line in head for word in line.split(" ")]
    values = [_cell(table, stage, column, False).plain for stage in table.stages]
    return max(_LEAST, *map(len, [*words, *values]))


def _rich_table(table: ScoreTable, columns: Sequence[Column], title: str, split_in_header: bool = True) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    shown.add_column("stage", no_wrap=True)
    for column in columns:
        head = [*_head(table, column), *([column.split] if split_in_header else [])]
        shown.add_column("\n".join(head), justify="right", width=_width(table, column, head))
    best = {column: table.best(column) for column in columns}
    for stage in table.stages:
        if any((stage, c) in table.cells for c in columns):
            shown.add_row(stage, *(_cell(table, stage, c, stage in best[c]) for c in columns))
    return shown


def _measure(table: ScoreTable, column: Column) -> list[str]:
    """The metric with its unit; only the unit, %, if the metric is a share and the task has no other."""
    m = column.about
    by = dict.fromkeys(f"by {r.scored_by.model}" for _, r in table.of(column) if r.scored_by)
    if not m.is_share or by:
        return [m.brief, *by]
    several = sum(c.task == column.task and c.split == column.split for c in table.columns) > 1
    return [*([m.short or m.title] if several else []), m.shown_unit + m.mark]


def _cell(table: ScoreTable, stage: str, column: Column, best: bool) -> Text:
    record = table.cells.get((stage, column))
    if record is None:
        return Text("–", style="dim")
    text = Text(fmt.value(record.value, column.about), style="bold" if best else "")
    if error := fmt.error(record.value, record.stderr, record.n, column.about).replace(" ", ""):
        text.append(f" {error}", style="dim not bold")
    return text


def record_table(records: Sequence[Mapping[str, object] | ScoreRecord], order: Sequence[str] = (), title: str = "") -> Table:
    """A row for each score, `value ± stderr`, and a column for each stage in the given order. For few stages: names are never
    cut."""
    scores = score_matrix(records, order)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in ("task", "split", "metric", "n"):
        table.add_column(heading, justify="right" if heading == "n" else "left")
    for stage in scores.stages:
        table.add_column(Text(stage), justify="right", style="bold" if stage == scores.stages[-1] else None)
    for column in scores.columns:
        cells = [scores.cells.get((stage, column)) for stage in scores.stages]
        largest = max((cell for cell in cells if cell), key=lambda cell: cell.n)
        names = (column.task, column.split, scores.heading(column), fmt.sample(largest.n, largest.clusters))
        table.add_row(*map(Text, names), *(_with_error(cell, column) for cell in cells))
    return table


def _with_error(record: ScoreRecord | None, column: Column) -> str:
    if record is None:
        return ""
    error = fmt.error(record.value, record.stderr, record.n, column.about)
    return f"{fmt.value(record.value, column.about)} {error}".rstrip()
