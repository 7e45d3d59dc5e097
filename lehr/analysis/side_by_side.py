"""Runs side by side: all that `lehr compare` says of them, in a terminal, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lehr.analysis.ancestors import Opener, nowhere
from lehr.analysis.comparison import Setting, settings_that_differ
from lehr.analysis.differences import Row, Standing, score_rows, scored_stage
from lehr.analysis.expense import QUANTITIES, Expense
from lehr.analysis.runs import ComparedRun, Group, groups
from lehr.analysis.tradeoff import Tradeoff, expenses, tradeoffs
from lehr.evals.differences import Correction, Difference
from lehr.report.speed import step_seconds


@dataclass(frozen=True)
class Totals:
    """What a run took, over all of its stages. `tokens_per_second` is over the steps of training alone; None: not recorded."""

    stages: int
    seconds: float
    tokens: int
    flops: float
    energy_joules: float | None
    energy_source: str
    tokens_per_second: float | None

    @classmethod
    def of(cls, run: ComparedRun) -> Totals:
        metered = [s for s in run.stages if s.it_energy is not None]
        timed = [(s.tokens, sum(seconds)) for s in run.stages if (seconds := step_seconds(s))]
        in_steps = sum(seconds for _, seconds in timed)
        return cls(
            stages=len(run.stages),
            seconds=sum(s.seconds for s in run.stages),
            tokens=sum(s.tokens for s in run.stages),
            flops=sum(s.flops for s in run.stages),
            energy_joules=sum(s.energy_joules or 0.0 for s in metered) if metered else None,
            energy_source=", ".join(sorted({s.energy_source for s in metered})),
            tokens_per_second=sum(tokens for tokens, _ in timed) / in_steps if in_steps else None,
        )


@dataclass(frozen=True)
class SideBySide:
    """`settings` has the recipe's keys that differ, by section, with a value for each group. `stages` are those of each group
    whose scores are compared; empty where a group has none. `expenses` are of the models of these, `totals` of whole runs."""

    groups: list[Group]
    settings: dict[str, list[Setting]]
    stages: list[str]
    scores: list[Row]
    totals: dict[str, Totals]
    expenses: list[Expense]
    tradeoffs: list[Tradeoff]
    correction: Correction = "holm"

    @classmethod
    def of(
        cls,
        runs: Sequence[ComparedRun],
        wished: Sequence[str] = (),
        correction: Correction = "holm",
        opener: Opener = nowhere,
    ) -> SideBySide:
        """`wished` are the stages to compare: none, one for all runs, or one for each of them, which then are compared one by
        one, seeds too. `opener` finds ancestors at addresses. Raises UserError for a stage that a group did not score."""
        one_by_one = len(wished) > 1
        found = [Group(run.name, [run]) for run in runs] if one_by_one else groups(runs)
        each = wished if one_by_one else [*wished, ""][:1] * len(found)
        stages = [scored_stage(group, stage) for group, stage in zip(found, each, strict=True)]
        settings = settings_that_differ([[run.recipe for run in group.runs] for group in found])
        totals = {run.name: Totals.of(run) for run in runs}
        rows = score_rows(found, stages, correction)
        taken, against = expenses(found, stages, opener), tradeoffs(found, stages, rows, correction)
        return cls(found, settings, stages, rows, totals, taken, against, correction)

    @property
    def adjusted(self) -> str:
        """In words: what p-values and verdicts are adjusted for."""
        tested = sum(d is not None and d.p_value is not None for row in self.scores for d in row.differences)
        if self.correction == "none" or tested < 2:
            return "p is not adjusted"
        return f"p is adjusted for {tested} differences (Holm)"

    @property
    def alike(self) -> str:
        """Of runs whose recipes show no difference, why: a sentence."""
        if len({run.folder for run in self.runs}) == 1:
            return "These are stages of one run, which has one recipe."
        if len(self.groups) == 1:
            return "They differ in nothing but their seeds and the layout of ranks."
        if not all(run.recipe for run in self.runs):
            return "What differs is not known: not every run has its recipe here."
        return "Every key of their recipes has the same value."

    @property
    def runs(self) -> list[ComparedRun]:
        return [run for group in self.groups for run in group.runs]

    def json(self) -> dict[str, Any]:
        """As plain values. A confidence interval is of 95 %, `detectable` at 5 % and 80 % power."""
        return {
            "correction": self.correction,
            "runs": [
                {"run": run.name, "missing": run.missing, **asdict(self.totals[run.name])} for run in self.runs
            ],
            "groups": [
                {"name": group.name, "runs": [run.name for run in group.runs], "of_seeds": group.of_seeds, "scored": stage}
                for group, stage in zip(self.groups, self.stages, strict=True)
            ],
            "settings": {section: [asdict(row) for row in rows] for section, rows in self.settings.items()},
            "scores": [
                {
                    "task": row.column.task,
                    "metric": row.column.metric,
                    "standings": [_standing(standing) for standing in row.standings],
                    "differences": [_difference(difference) for difference in row.differences],
                    **({"judged": row.note} if row.note else {}),
                }
                for row in self.scores
            ],
            "models": [
                {"group": group.name, "stage": stage, **asdict(taken)}
                for group, stage, taken in zip(self.groups, self.stages, self.expenses, strict=True)
            ],
            "against": [self._against(row) for row in self.tradeoffs],
        }  # fmt: skip

    def _against(self, row: Tradeoff) -> dict[str, Any]:
        """A score, and by quantity the groups on its Pareto frontier."""
        return {
            "score": row.title,
            "metric": row.about.name,
            "tasks": list(row.tasks),
            "marks": [asdict(mark) if mark else None for mark in row.marks],
            "pareto": {
                quantity: [self.groups[i].name for i in sorted(row.frontier(self.expenses, quantity))]
                for quantity in QUANTITIES
            },
        }


def _standing(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    error = "standard_deviation" if standing.runs > 1 else "standard_error"
    return {"value": standing.value, error: standing.error, "runs": standing.runs, "n": standing.record.n}


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else asdict(difference)
