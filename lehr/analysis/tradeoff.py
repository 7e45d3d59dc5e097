"""Scores against what the models took, as OLMo 2's Figure 1 has average performance against training FLOPs, and who is on the
Pareto frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lehr.analysis.ancestors import Opener, parent_of
from lehr.analysis.comparison import mean_and_spread
from lehr.analysis.differences import Row
from lehr.analysis.expense import Expense, expense, mean, unknown
from lehr.analysis.runs import ComparedRun, Group
from lehr.artifacts.artifact import MANIFEST, Artifact
from lehr.report.scores import Column
from lehr.runtime.metrics import SHARE, Metric


@dataclass(frozen=True)
class Mark:
    """A group's score: `error` as in Standing."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Tradeoff:
    """One score of all groups, a mark for each; None where a group lacks it."""

    title: str
    about: Metric
    marks: list[Mark | None]
    tasks: tuple[str, ...] = ()  # of a mean

    def frontier(self, expenses: Sequence[Expense], quantity: str) -> set[int]:
        """The groups that no other one beats: with as high a score for less, or a higher one for no more. Those whose amount is
        not known as a whole are not asked; of money in several currencies nobody is."""
        if quantity == "money" and len({one.currency for one in expenses if one.money.whole is not None}) > 1:
            return set()
        sign = -1.0 if self.about.better == "lower" else 1.0
        amounts = [one.amount(quantity).whole for one in expenses]
        at = {
            i: (amount, sign * mark.value)
            for i, (amount, mark) in enumerate(zip(amounts, self.marks, strict=True))
            if amount is not None and mark is not None and math.isfinite(mark.value)
        }
        return {i for i, (x, y) in at.items() if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in at.values())}


def expenses(groups: Sequence[Group], stages: Sequence[str], opener: Opener) -> list[Expense]:
    """Of the model of each group whose scores are compared; of seeds the mean over them."""
    found = []
    for group, stage in zip(groups, stages, strict=True):
        models = [model_of(run, stage, opener) for run in group.runs]
        each = [expense(m, opener) if m else unknown("its model is not here") for m in models]
        found.append(mean(each) if len(each) > 1 else each[0])
    return found


def model_of(run: ComparedRun, stage: str, opener: Opener) -> Artifact | None:
    """The checkpoint that was scored as `stage`: the parent of the newest of those scores, else the run's own of that name."""
    if not stage:
        return None
    for scores in reversed([a for a in run.artifacts if a.manifest.kind == "scores"]):
        if scores.manifest.config.get("model") != stage:
            continue
        for ref in scores.manifest.parents:
            if ref.kind == "checkpoint":
                found = parent_of(scores, ref, opener) or _of_the_run_around(scores, ref.digest)
                if found is not None:
                    return found
    own = [a for a in run.artifacts if a.manifest.kind == "checkpoint" and a.manifest.stage == stage]
    return own[-1] if own else None


def _of_the_run_around(scores: Artifact, digest: str) -> Artifact | None:
    """Where `lehr eval` wrote into a run that was moved since: RUN/evals/artifacts/SCORES."""
    run = scores.folder.absolute().parents[2]
    for path in (run / "artifacts").glob(f"*/{MANIFEST}"):
        if f'"{digest}"' in path.read_text(encoding="utf-8", errors="replace"):
            found = Artifact.open(path.parent, verify=False)
            if found.manifest.digest == digest:
                return found
    return None


def tradeoffs(groups: Sequence[Group], stages: Sequence[str], rows: Sequence[Row]) -> list[Tradeoff]:
    """The mean of the accuracies that all groups have, where they have two or more, then each score that has a better way."""
    found = []
    for row in rows:
        if row.column.about.better:
            marks = [Mark(s.value, s.error) if s else None for s in row.standings]
            found.append(Tradeoff(row.column.task, row.column.about, marks))
    average = _mean(groups, stages, _accuracies(rows))
    return [*([average] if average else []), *found]


def _accuracies(rows: Sequence[Row]) -> list[Column]:
    """Of each task its exact match, else the first share of which more is better, where every group has it."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.column.metric != "exact_match"):  # stable
        if row.column.about.is_share and row.column.about.better == "higher":
            first.setdefault(row.column.task, row)
    return [row.column for row in first.values() if all(s is not None for s in row.standings)]


def _mean(groups: Sequence[Group], stages: Sequence[str], columns: Sequence[Column]) -> Tradeoff | None:
    if len(columns) < 2:
        return None
    marks = [_average(group, stage, columns) for group, stage in zip(groups, stages, strict=True)]
    about = Metric("mean", "mean of accuracies", SHARE, "higher")
    return Tradeoff(f"mean of {len(columns)} tasks", about, marks, tuple(c.task for c in columns))


def _average(group: Group, stage: str, columns: Sequence[Column]) -> Mark | None:
    """Of one run with the standard error of a mean of independent scores; of seeds the mean of their means with its standard
    deviation. None where a run lacks one of the scores."""
    found = [[run.score(stage, c.task, c.metric) for c in columns] for run in group.runs]
    whole = [[r for r in row if r is not None] for row in found]
    if any(len(row) < len(columns) for row in whole):
        return None
    means = [math.fsum(r.value for r in row) / len(row) for row in whole]
    if group.of_seeds:
        return Mark(*mean_and_spread(means))
    errors = [r.stderr for r in whole[0] if r.stderr is not None]
    return Mark(means[0], math.hypot(*errors) / len(columns) if len(errors) == len(columns) else None)
