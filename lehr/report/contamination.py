"""Which examples of the scores stand in training documents, and what the scores are without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lehr.evals.flagged import Contamination
from lehr.report import format as fmt
from lehr.report.scores import Column, ScoreRecord, ScoreTable

_SHOWN = 5  # documents that a row names


@dataclass(frozen=True)
class Flagged:
    """`rows`: task, examples, those in documents that stayed, those in removed ones, documents, what of any of the models was
    not compared; the models that a row holds for are named where several differ. `without`: task and metric, model, score,
    score without the examples in documents that stayed, their number. `lede` says it in a sentence."""

    lede: str
    rows: list[list[str]]
    without: list[list[str]]


def flagged(table: ScoreTable) -> Flagged | None:
    """Nothing where no score says anything of it: those of older runs."""
    records = [(column, record) for column in table.columns for _, record in table.of(column) if record.contamination]
    if not records:
        return None
    tasks = dict.fromkeys(column.task for column, _ in records)
    rows = [row for task in tasks for row in _rows(task, [record for column, record in records if column.task == task])]
    without = [_without(column, record) for column, record in records if record.contamination and record.contamination.kept]
    return Flagged(_lede([record for _, record in records]), rows, without)


def _lede(records: Sequence[ScoreRecord]) -> str:
    said = [(record.task, record.contamination) for record in records if record.contamination]
    stand = dict.fromkeys(fmt.words(task) for task, known in said if known.kept)
    unknown = dict.fromkeys(fmt.words(task) for task, known in said if known.kept is None)
    parts = [f"Examples of {', '.join(stand)} stand in documents that were trained on." if stand else ""]
    if len(unknown) < len({task for task, _ in said}) and not stand:
        parts = ["No example that was compared stands in a document that was trained on."]
    parts += [f"Of {', '.join(unknown)} nothing is known for some model or all: that is not none." if unknown else ""]
    return " ".join(filter(None, parts))


def _rows(task: str, records: Sequence[ScoreRecord]) -> list[list[str]]:
    """One row for all models for which the same holds."""
    groups: dict[str, list[ScoreRecord]] = {}
    for record in records:
        assert record.contamination is not None
        said = {"kept", "removed", "documents", "document_count"}
        groups.setdefault(record.contamination.model_dump_json(include=said), []).append(record)
    return [_row(task, group, len(groups) > 1) for group in groups.values()]


def _row(task: str, group: Sequence[ScoreRecord], named: bool) -> list[str]:
    known = group[0].contamination
    assert known is not None
    models = f" ({', '.join(dict.fromkeys(record.stage for record in group))})" if named else ""
    counts = ["not compared" if count is None else f"{count:,}" for count in (known.kept, known.removed)]
    others = dict.fromkeys(other for record in group if record.contamination for other in record.contamination.not_compared)
    not_compared = ", ".join(others) or "–"
    return [f"{fmt.words(task)}{models}", f"{group[0].n:,}", *counts, _documents(known), not_compared]


def _documents(known: Contamination) -> str:
    more = known.document_count - len(known.documents[:_SHOWN])
    return ", ".join([*known.documents[:_SHOWN], *([f"and {more:,} more"] if more else [])]) or "–"


def _without(column: Column, record: ScoreRecord) -> list[str]:
    assert record.contamination is not None
    left, of = record.contamination.without, column.about
    shown = f"{fmt.value(record.value, of)} {fmt.error(record.value, record.stderr, record.n, of)}".rstrip()
    clean = f"{fmt.value(left.value, of)} {fmt.error(left.value, left.stderr, left.n, of)}".rstrip() if left else "none is left"
    return [f"{fmt.words(column.task)}, {of.heading}", record.stage, shown, clean, f"{left.n:,}" if left else "0"]
