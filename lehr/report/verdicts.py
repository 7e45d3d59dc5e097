"""What must be said beside a score: what simpler models reach, and where a stage lost what its parent had."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.data import ReportData, StageReport
from lehr.report.format import esc
from lehr.report.scores import Column, ScoreRecord, ScoreTable

_SHOWN = 5  # of what got worse, the rest folded


def against(data: ReportData) -> str:
    """How the models that baselines were made for stand to them: a line each, and those that are worse marked."""
    table = data.table("held_out")
    lines = []
    for column in table.of_models:
        for stage, record in table.of(column):
            simpler = [(c, found) for c in table.baselines(column) if (found := table.cells.get((stage, c)))]
            if simpler:
                lines.append(_line(column, record, simpler))
    if not lines:
        return ""
    items = "".join(f'<li class="{"worse" if worse else ""}">{esc(text)}</li>' for text, worse in lines)
    return f'<ul class="against">{items}</ul>'


def _line(column: Column, record: ScoreRecord, simpler: list[tuple[Column, ScoreRecord]]) -> tuple[str, bool]:
    """`prose at soup: 2.062 bits per byte, worse than ...; better than ...`, and whether it is worse than one."""
    m = column.about
    words = {True: list[str](), False: list[str]()}
    for other, found in simpler:
        name = other.about.title.removesuffix(f" on the same tokens, {m.title}")
        words[found.value < record.value].append(f"{name} ({fmt.value(found.value, m)})")
    sides = [("worse than", words[True]), ("better than" if not words[True] else "but better than", words[False])]
    said = " ".join(f"{side} {', '.join(names)}" for side, names in sides if names)
    place = f"{column.task.replace('_', ' ')} at {record.stage}"
    return f"{place}: {fmt.with_unit(record.value, m)}, {said} on the same tokens", bool(words[True])


@dataclass(frozen=True)
class Regression:
    """A score that a stage lowered: `before` is its parent's, or the mean of its parents', `errors` the difference in standard
    errors of the two."""

    stage: str
    parents: list[str]
    column: Column
    before: float
    after: ScoreRecord
    errors: float


def regressions(data: ReportData) -> list[Regression]:
    """Held-out scores that are worse than the parent's by more than one standard error, the surest first."""
    table = data.table("held_out")
    found = [
        worse
        for stage in data.stages
        if stage.kind == "checkpoint"
        for column in table.of_models
        if (worse := _regression(table, stage, data.parents_of(stage), column))
    ]
    return sorted(found, key=lambda r: -r.errors)


def _regression(table: ScoreTable, stage: StageReport, parents: list[StageReport], column: Column) -> Regression | None:
    after = table.cells.get((stage.name, column))
    before = [r for parent in parents if (r := table.cells.get((parent.name, column)))]
    if after is None or not before or not column.about.better:
        return None
    mean = math.fsum(r.value for r in before) / len(before)
    lost = after.value - mean if column.about.better == "lower" else mean - after.value
    one = after.stderr or 0.0
    if not lost > max(one, 1e-9):  # nor where one of them is NaN
        return None
    both = math.hypot(one, max(r.stderr or 0.0 for r in before))
    return Regression(stage.name, [r.stage for r in before], column, mean, after, lost / both if both else math.inf)


def got_worse(data: ReportData) -> str:
    """The regressions as a table; a line where there are none, nothing where nothing can be compared."""
    found = regressions(data)
    if not found:
        compared = any(len(data.table("held_out").of(c)) > 1 for c in data.table("held_out").of_models)
        return '<p class="caption">No stage is worse than the one before it by a standard error.</p>' if compared else ""
    note = (
        "Against the model that each stage began with, a soup against the mean of its ingredients; by more than one standard "
        "error, the surest first. Both answered the same examples, so a difference is known better than the errors suggest."
    )
    html = f"<h3>Got worse</h3>{_table(found[:_SHOWN])}"
    if len(found) > _SHOWN:
        html += markup.folded(f"{len(found) - _SHOWN} more, less sure", _table(found[_SHOWN:]))
    return html + markup.caption(note)


def _table(found: list[Regression]) -> str:
    rows = []
    for r in found:
        m, by = r.column.about, r.after.value - r.before
        change = f"{'+' if by > 0 else '−'}{fmt.value(abs(by), m)}"
        name = f"{r.column.task.replace('_', ' ')}, {m.title}"
        before = f"{fmt.value(r.before, m)}<small>{esc(_origin(r.parents))}</small>"
        sure = f"{r.errors:.1f}" if math.isfinite(r.errors) else "–"
        rows.append([esc(r.stage), esc(name), before, fmt.value(r.after.value, m), f"<strong>{change}</strong>", sure])
    return markup.table(["stage", "score", "before", "after", "change", "in standard errors"], rows, "worse", 2)


def _origin(parents: list[str]) -> str:
    return parents[0] if len(parents) == 1 else f"mean of {len(parents)}"
