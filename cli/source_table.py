"""Scores of texts by source and domain on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from lehr.cli.tables import plain_table, text
from lehr.evals.flagged import Without
from lehr.evals.task import Mean, Part
from lehr.report import format as fmt
from lehr.report.by_source import one_line
from lehr.report.scores import ScoreRecord
from lehr.runtime.metrics import Metric, metric

_ROWS = 60  # of sources and domains together; of more the sources alone are shown


def source_tables(records: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """One for each task and split that has sources: their texts and scores, and those of their domains if they are not many."""
    found: dict[tuple[str, str], list[ScoreRecord]] = {}
    for record in map(ScoreRecord.model_validate, records):
        if record.parts:
            found.setdefault((record.task, record.split), []).append(record)
    for (task, split), of in found.items():
        yield _table(f"{task}, {split}, by source", of)


def _table(title: str, records: Sequence[ScoreRecord]) -> Table:
    parts, about = records[0].parts, [metric(record.metric) for record in records]
    divided, flagged = any(part.domains for part in parts), any(part.kept for part in parts)
    several = ["mean over domains"] if divided else []
    clean = ["without contaminated"] if flagged else []
    headings = ["source", "texts", *(name for of in about for name in (of.heading, *several)), *clean]
    table = plain_table(title, headings, right=headings[1:])
    whole = len(parts) <= _ROWS
    for number, part in enumerate(parts):
        if whole or not part.domain:
            cells = [
                cell for record, of in zip(records, about, strict=True) for cell in _cells(record.parts[number], of, divided)
            ]
            name = f"  {one_line(part.domain)}" if part.domain else one_line(part.source)
            without = [_shown(part.without, about[0]) if part.kept else ""] if flagged else []
            table.add_row(*map(text, (name, f"{part.n:,}", *cells, *without)))
    if not whole:
        table.caption = f"The {sum(bool(part.domain) for part in parts):,} domains are in scores.json."
        table.caption_justify = "left"
    return table


def _cells(part: Part, of: Metric, divided: bool) -> list[str]:
    return [_shown(part, of), *([_shown(part.mean, of) if part.mean else ""] if divided else [])]


def _shown(one: Part | Mean | Without | None, of: Metric) -> str:
    """Of a part, a mean or what is left of a part; the last may be nothing."""
    if one is None:
        return "none is left"
    return f"{fmt.value(one.value, of)} {fmt.error(one.value, one.stderr, 0, of)}".rstrip()
