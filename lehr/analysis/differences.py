"""How far the scores of one run or seed group are from another's: paired where both answered the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lehr.analysis.comparison import mean_and_spread
from lehr.analysis.runs import Group
from lehr.evals.differences import Correction, Difference, adjusted, independent, interval, paired
from lehr.report.scores import Column, ScoreRecord, known_error
from lehr.runtime.errors import UserError


@dataclass(frozen=True)
class Standing:
    """A group's score: of one run its value and standard error over examples; of a seed group the mean, and the standard
    deviation over its `runs`. `error` is None where nothing is known."""

    value: float
    error: float | None
    runs: int
    record: ScoreRecord


@dataclass(frozen=True)
class Row:
    """One score: the groups' standings, and the differences of the second and later groups; None where a group lacks it."""

    column: Column
    standings: list[Standing | None]
    differences: list[Difference | None]

    @property
    def note(self) -> str:
        """Who judged, where a model did; of scores of different judges also that they are not compared."""
        by = dict.fromkeys(s.record.scored_by for s in self.standings if s is not None)
        if not any(by):
            return ""
        if len(by) == 1:
            return "".join(f"by {one.words}" for one in by if one)
        each = (f"{one.words}, asked as {one.digest[:8]}" if one else "a function" for one in by)
        return f"not compared: judged by {'; '.join(each)}"


def score_rows(groups: Sequence[Group], stages: Sequence[str], correction: Correction = "holm") -> list[Row]:
    """The held-out scores of one stage of each group; all their differences are one family for the `correction`."""
    keys = dict.fromkeys(
        Column(r.split, r.task, r.metric)
        for group, name in zip(groups, stages, strict=True)
        for run in group.runs
        for r in run.scores
        if r.stage == name
    )
    rows = []
    for column in keys:
        found = [_standing(group, name, column) for group, name in zip(groups, stages, strict=True)]
        later = zip(groups[1:], stages[1:], found[1:], strict=True)
        away = [_difference((groups[0], stages[0], found[0]), other, column) for other in later]
        rows.append(Row(column, found, away))
    return _adjusted(rows, correction)


def _adjusted(rows: Sequence[Row], correction: Correction) -> list[Row]:
    found = iter(adjusted([d for row in rows for d in row.differences], correction))
    return [replace(row, differences=list(islice(found, len(row.differences)))) for row in rows]


def scored_stage(group: Group, wished: str = "") -> str:
    """The stage whose scores are compared: the wished one, else the last that was scored; empty where nothing was. Raises
    UserError for a stage that was not scored."""
    there = list(dict.fromkeys(r.stage for run in group.runs for r in run.scores))
    if wished and wished not in there:
        where = ", ".join(str(run.folder) for run in group.runs)
        remedy = f"scored were {', '.join(there)}: give one of them" if there else "give a run that has scores"
        raise UserError(f"no scores of {wished} here", where=where, remedy=remedy)
    return wished or (there[-1] if there else "")


def _standing(group: Group, stage: str, column: Column) -> Standing | None:
    found = [r for run in group.runs if (r := run.score(stage, column.task, column.metric)) is not None]
    if not found:
        return None
    if not group.of_seeds:
        return Standing(found[0].value, known_error(found[0], column.about), 1, found[0])
    mean, spread = mean_and_spread([r.value for r in found])
    return Standing(mean, spread if len(found) > 1 else None, len(found), found[0])


Side = tuple[Group, str, Standing | None]  # a group, the stage that is compared, its standing


def _difference(first: Side, other: Side, column: Column) -> Difference | None:
    (group_a, stage_a, a), (group_b, stage_b, b) = first, other
    if a is None or b is None or a.record.scored_by != b.record.scored_by:  # what the second says Row.note says
        return None
    if group_a.of_seeds or group_b.of_seeds:
        return _over_seeds(a, b)
    key_a, key_b = ((stage, column.task, column.metric) for stage in (stage_a, stage_b))
    same = paired(group_a.runs[0].items.get(key_a), group_b.runs[0].items.get(key_b), column.about.is_share)
    return same or _independent(a, b)


def _independent(a: Standing, b: Standing) -> Difference:
    n = min(a.record.clusters or a.record.n, b.record.clusters or b.record.n)
    return independent((a.value, b.value), (a.error, b.error), n)


def _over_seeds(a: Standing, b: Standing) -> Difference:
    """Welch's interval over the runs' values. A side with a single run is taken to spread as the other one does, for its error
    over examples is of another kind."""
    spread_a, spread_b = (a.error, b.error) if a.runs > 1 and b.runs > 1 else ((a if a.runs > 1 else b).error,) * 2
    runs = a.runs + b.runs
    if spread_a is None or spread_b is None or spread_a == spread_b == 0:  # equal seeds say nothing of the next one
        return interval(b.value - a.value, None, 1, "over seeds", runs)
    va, vb = spread_a**2 / a.runs, spread_b**2 / b.runs
    freedom = _freedom((va, a.runs), (vb, b.runs)) if min(a.runs, b.runs) > 1 else max(a.runs, b.runs) - 1
    return interval(b.value - a.value, math.sqrt(va + vb), freedom, "over seeds", runs)


def _freedom(*sides: tuple[float, int]) -> int:
    """Welch and Satterthwaite's degrees of freedom, of each side's squared error and number of runs."""
    below = math.fsum(v * v / (runs - 1) for v, runs in sides)
    return int(math.fsum(v for v, _ in sides) ** 2 / below) if below else 1


def mean_difference(apart: Sequence[Difference | None]) -> Difference | None:
    """Of the mean of several scores, from the difference of each: their errors are independent, as the examples are. With
    Welch and Satterthwaite's degrees of freedom. None where one is missing."""
    found = [d for d in apart if d is not None]
    if not found or len(found) < len(apart):
        return None
    k, how = len(found), found[0].how if len({d.how for d in found}) == 1 else "independent"
    value, n = math.fsum(d.value for d in found) / k, sum(d.n for d in found)
    if any(d.stderr is None for d in found):
        return Difference(value, None, None, how, n)
    parts = [((d.stderr or 0.0) ** 2, d.freedom + 1) for d in found if d.stderr]
    stderr = math.sqrt(math.fsum(v for v, _ in parts)) / k
    return interval(value, stderr, max(_freedom(*parts), 1), how, n) if parts else replace(found[0], value=value, n=n)


def seeds_difference(first: Sequence[float], other: Sequence[float], record: ScoreRecord) -> Difference:
    """Of what runs of two groups scored, of which one at least has several seeds."""
    sides = [Standing(*mean_and_spread(values), len(values), record) for values in (first, other)]
    return _over_seeds(*sides)
