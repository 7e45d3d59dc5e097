"""What must be said beside a score: what simpler models reach, and where a stage lost what its parent had."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lehr.report import format as fmt
from lehr.report.data import ReportData, StageReport
from lehr.report.scores import Column, ScoreRecord, ScoreTable


class Comparison(NamedTuple):
    """A model beside simpler ones, and whether one of these is better."""

    said: str
    worse: bool


def against(data: ReportData) -> list[Comparison]:
    """How the models that baselines were made for stand to them."""
    table = data.table("held_out")
    lines = []
    for column in table.of_models:
        for stage, record in table.of(column):
            simpler = [(c, found) for c in table.baselines(column) if (found := table.cells.get((stage, c)))]
            if simpler:
                lines.append(_line(column, record, simpler))
    return lines


def _line(column: Column, record: ScoreRecord, simpler: list[tuple[Column, ScoreRecord]]) -> Comparison:
    """`prose at soup: 2.062 bits per byte, worse than ... but better than ...`."""
    m = column.about
    words = {True: list[str](), False: list[str]()}
    for other, found in simpler:
        name = other.about.title.removesuffix(f" on the same tokens, {m.title}")
        words[found.value < record.value].append(f"{name} ({fmt.value(found.value, m)})")
    sides = [("worse than", words[True]), ("better than" if not words[True] else "but better than", words[False])]
    said = " ".join(f"{side} {', '.join(names)}" for side, names in sides if names)
    place = f"{fmt.words(column.task)} at {record.stage}"
    return Comparison(f"{place}: {fmt.with_unit(record.value, m)}, {said} on the same tokens", bool(words[True]))


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
        if not column.is_repeated
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
