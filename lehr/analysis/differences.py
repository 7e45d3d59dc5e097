"""How far the scores of one run or seed group are from another's: paired where both answered the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lehr.analysis.comparison import mean_and_spread
from lehr.analysis.runs import ComparedRun, Group
from lehr.evals.estimate import ratio
from lehr.report.scores import Column, ScoreRecord
from lehr.runtime.errors import UserError

# Two-sided 95 % quantiles of Student's t, for 1 to 30 degrees of freedom; beyond them the normal's, 4 % too small at most.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.960

How = Literal["paired", "independent", "over seeds"]


@dataclass(frozen=True)
class Standing:
    """A group's score: of one run its value and standard error over examples; of a seed group the mean, and the standard
    deviation over its `runs`. `error` is None where nothing is known."""

    value: float
    error: float | None
    runs: int
    record: ScoreRecord


@dataclass(frozen=True)
class Difference:
    """To the first group's score, with its 95 % confidence interval (None: nothing is known of the error). `how`: from the same
    examples, from two samples, or from seeds; `n` counts what the interval is over."""

    value: float
    low: float | None
    high: float | None
    how: How
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Row:
    """One score: the groups' standings, and the differences of the second and later groups; None where a group lacks it."""

    column: Column
    standings: list[Standing | None]
    differences: list[Difference | None]


def score_rows(groups: Sequence[Group], stages: Sequence[str]) -> list[Row]:
    """The held-out scores of one stage of each group."""
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
    return rows


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
        return Standing(found[0].value, _error(found[0], column), 1, found[0])
    mean, spread = mean_and_spread([r.value for r in found])
    return Standing(mean, spread if len(found) > 1 else None, len(found), found[0])


def _error(record: ScoreRecord, column: Column) -> float | None:
    """The standard error; of a share of 0 or 1 one side of Wilson's interval, as tables have it: the formula says 0 there."""
    if not record.stderr and column.about.is_share and record.value in (0.0, 1.0) and record.n > 1:
        return 1 / (record.n + 1)
    return record.stderr


Side = tuple[Group, str, Standing | None]  # a group, the stage that is compared, its standing


def _difference(first: Side, other: Side, column: Column) -> Difference | None:
    (group_a, stage_a, a), (group_b, stage_b, b) = first, other
    if a is None or b is None:
        return None
    if group_a.of_seeds or group_b.of_seeds:
        return _over_seeds(a, b)
    return _paired((group_a.runs[0], stage_a), (group_b.runs[0], stage_b), column) or _independent(a, b)


def _paired(first: tuple[ComparedRun, str], other: tuple[ComparedRun, str], column: Column) -> Difference | None:
    """Over the examples' own differences, as a score is over its examples (Miller 2024, "Adding error bars to evals", section
    4.2). None where the two did not answer the same ones, or it is not known."""
    a, b = (run.items.get((stage, column.task, column.metric)) for run, stage in (first, other))
    if a is None or b is None or (a.examples, a.weights, len(a.values)) != (b.examples, b.weights, len(b.values)):
        return None
    apart = [y - x for x, y in zip(a.values, b.values, strict=True)]
    value, stderr, n, clusters = ratio(apart, a.weights or [1.0] * len(apart), a.clusters)
    half = quantile(clusters - 1) * stderr if stderr is not None else None
    return _interval(value, half, "paired", n)


def _independent(a: Standing, b: Standing) -> Difference:
    """Of two samples: at least as wide as what the same examples would give, as a rule."""
    n = min(a.record.clusters or a.record.n, b.record.clusters or b.record.n)
    known = a.error is not None and b.error is not None
    half = quantile(n - 1) * math.hypot(a.error or 0.0, b.error or 0.0) if known else None
    return _interval(b.value - a.value, half, "independent", n)


def _over_seeds(a: Standing, b: Standing) -> Difference:
    """Welch's interval over the runs' values. A side with a single run is taken to spread as the other one does, for its error
    over examples is of another kind."""
    spread_a, spread_b = (a.error, b.error) if a.runs > 1 and b.runs > 1 else ((a if a.runs > 1 else b).error,) * 2
    runs = a.runs + b.runs
    if spread_a is None or spread_b is None or spread_a == spread_b == 0:  # equal seeds say nothing of the next one
        return _interval(b.value - a.value, None, "over seeds", runs)
    va, vb = spread_a**2 / a.runs, spread_b**2 / b.runs
    freedom = _freedom((va, a.runs), (vb, b.runs)) if min(a.runs, b.runs) > 1 else max(a.runs, b.runs) - 1
    return _interval(b.value - a.value, quantile(freedom) * math.sqrt(va + vb), "over seeds", runs)


def _freedom(*sides: tuple[float, int]) -> int:
    """Welch and Satterthwaite's degrees of freedom, of each side's squared error and number of runs."""
    below = math.fsum(v * v / (runs - 1) for v, runs in sides)
    return int(math.fsum(v for v, _ in sides) ** 2 / below) if below else 1


def _interval(value: float, half: float | None, how: How, n: int) -> Difference:
    return Difference(value, None if half is None else value - half, None if half is None else value + half, how, n)


def quantile(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t. Less than one degree of freedom counts as one."""
    return _T[max(freedom, 1) - 1] if freedom <= len(_T) else _NORMAL
