"""What must be said beside a score: what simpler models reach, and where a stage lost what its parent had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lehr.evals.differences import Difference, adjusted, independent, mean_of_items, paired
from lehr.evals.items import HELD_OUT, ItemScores
from lehr.report import format as fmt
from lehr.report.data import ReportData, StageReport
from lehr.report.scores import Column, ScoreRecord, ScoreTable, known_error

Items = Mapping[tuple[str, str, str], ItemScores]  # by stage, task and metric


class Comparison(NamedTuple):
    """A model beside simpler ones, and whether one of these is better."""

    said: str
    worse: bool


def against(data: ReportData) -> list[Comparison]:
    """How the models that baselines were made for stand to them."""
    table = data.table(HELD_OUT)
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
class Change:
    """A held-out score of a stage beside its parent's, or the mean of its parents', which is `before`."""

    stage: str
    parents: list[str]
    column: Column
    before: float
    after: ScoreRecord
    difference: Difference

    @property
    def is_worse(self) -> bool:
        """Whether it is significantly worse, after the correction for all changes of the report."""
        lost = self.difference.value * (1 if self.column.about.better == "lower" else -1)
        return lost > 0 and self.difference.is_clear


def changes(data: ReportData) -> list[Change]:
    """Every held-out score beside that of the model which its stage began with, in the order of the stages. A difference is
    paired where both gave answers to the same examples; all are one family for Holm's correction."""
    table = data.table(HELD_OUT)
    items = {(one.stage, one.task, one.metric): one for one in data.items}
    found = [
        change
        for stage in data.stages
        if stage.kind == "checkpoint"
        for column in table.of_models
        if not column.is_repeated and column.about.better
        if (change := _change(table, items, (stage, data.parents_of(stage)), column))
    ]
    differences = adjusted([change.difference for change in found])
    return [replace(change, difference=d) for change, d in zip(found, differences, strict=True) if d]


def tested(found: Sequence[Change]) -> int:
    """How many of them have a p-value, which is what they are adjusted for."""
    return sum(change.difference.p_value is not None for change in found)


def _change(table: ScoreTable, items: Items, stages: tuple[StageReport, list[StageReport]], column: Column) -> Change | None:
    stage, parents = stages
    after = table.cells.get((stage.name, column))
    before = [r for parent in parents if (r := table.cells.get((parent.name, column)))]
    if after is None or not before or not all(math.isfinite(r.value) for r in (after, *before)):
        return None
    if any(r.scored_by != after.scored_by for r in before):  # other judges' opinions
        return None
    mean = math.fsum(r.value for r in before) / len(before)
    own = [items.get((r.stage, column.task, column.metric)) for r in (*before, after)]
    known = [one for one in own if one is not None]
    same = paired(mean_of_items(known[:-1]), known[-1], column.about.is_share) if len(known) == len(own) else None
    return Change(stage.name, [r.stage for r in before], column, mean, after, same or _apart(mean, before, after, column))


def _apart(mean: float, before: list[ScoreRecord], after: ScoreRecord, column: Column) -> Difference:
    """Where it is not known what each example gave. Parents have much in common: their mean is not known better than one."""
    errors = [known_error(r, column.about) for r in before]
    of_mean = None if None in errors else max(error or 0.0 for error in errors)
    n = min(r.clusters or r.n for r in (*before, after))
    return independent((mean, after.value), (of_mean, known_error(after, column.about)), n)
