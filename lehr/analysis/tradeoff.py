"""Scores against what the models took, as OLMo 2's Figure 1 has average performance against training FLOPs, and who is on the
Pareto frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lehr.analysis.ancestors import Opener, parent_of
from lehr.analysis.comparison import mean_and_spread
from lehr.analysis.differences import Row, mean_difference, seeds_difference
from lehr.analysis.expense import Expense, expense, mean, unknown
from lehr.analysis.runs import ComparedRun, Group
from lehr.artifacts.artifact import MANIFEST, Artifact
from lehr.evals.differences import Correction, Difference, adjusted
from lehr.report.scores import Column, ScoreRecord
from lehr.runtime.errors import LehrError
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
    differences: list[Difference | None] = field(default_factory=list)  # of a mean: to the first group's

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
        if scores.manifest.config.get("model") == stage and (found := scored_model(scores, opener)) is not None:
            return found
    own = [a for a in run.artifacts if a.manifest.kind == "checkpoint" and a.manifest.stage == stage]
    return own[-1] if own else None


def scored_model(scores: Artifact, opener: Opener) -> Artifact | None:
    """The checkpoint that these scores are of; None where it is gone."""
    refs = [ref for ref in scores.manifest.parents if ref.kind == "checkpoint"]
    there = (parent_of(scores, ref, opener) or _of_the_run_around(scores, ref.digest) for ref in refs)
    return next((model for model in there if model is not None), None)


def _of_the_run_around(scores: Artifact, digest: str) -> Artifact | None:
    """Where `lehr eval` wrote into a run that was moved since: RUN/evals/artifacts/SCORES."""
    for run in scores.folder.absolute().parents[2:3]:
        for path in (run / "artifacts").glob(f"*/{MANIFEST}"):
            if f'"{digest}"' not in path.read_text(encoding="utf-8", errors="replace"):
                continue  # parsed are those alone that name it
            try:
                found = Artifact.open(path.parent, verify=False)
            except LehrError:
                continue
            if found.manifest.digest == digest:
                return found
    return None


def tradeoffs(
    groups: Sequence[Group], stages: Sequence[str], rows: Sequence[Row], correction: Correction = "holm"
) -> list[Tradeoff]:
    """The mean of the accuracies that all groups have, where they have two or more, then each score that has a better way. The
    means' differences are a family of their own for the `correction`."""
    found = []
    for row in rows:
        if row.column.about.better:
            marks = [Mark(s.value, s.error) if s else None for s in row.standings]
            found.append(Tradeoff(row.column.task, row.column.about, marks))
    average = _mean(groups, stages, _accuracies(rows), correction)
    return [*([average] if average else []), *found]


def _accuracies(rows: Sequence[Row]) -> list[Row]:
    """Of each task its exact match, else the first share of which more is better, where every group has it."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.column.metric != "exact_match"):  # stable
        if row.column.about.is_share and row.column.about.better == "higher":
            first.setdefault(row.column.task, row)
    return [row for row in first.values() if all(s is not None for s in row.standings)]


def _mean(groups: Sequence[Group], stages: Sequence[str], rows: Sequence[Row], correction: Correction) -> Tradeoff | None:
    """None where a run of a group lacks one of the scores, and of a single score."""
    columns = [row.column for row in rows]
    found = [[_scores(run, stage, columns) for run in g.runs] for g, stage in zip(groups, stages, strict=True)]
    if len(columns) < 2 or any(len(scores) < len(columns) for group in found for scores in group):
        return None
    means = [[math.fsum(r.value for r in scores) / len(scores) for scores in group] for group in found]
    marks = [Mark(*mean_and_spread(m)) if len(m) > 1 else Mark(m[0], _error(g[0])) for m, g in zip(means, found, strict=True)]
    apart: list[Difference | None] = [
        seeds_difference(means[0], means[i], found[i][0][0])
        if len(means[0]) + len(means[i]) > 2
        else mean_difference([row.differences[i - 1] for row in rows])
        for i in range(1, len(groups))
    ]
    about = Metric("mean", "mean of accuracies", SHARE, "higher")
    names = tuple(column.task for column in columns)
    return Tradeoff(f"mean of {len(columns)} tasks", about, [*marks], names, adjusted(apart, correction))


def _scores(run: ComparedRun, stage: str, columns: Sequence[Column]) -> list[ScoreRecord]:
    return [r for c in columns if (r := run.score(stage, c.task, c.metric)) is not None]


def _error(scores: Sequence[ScoreRecord]) -> float | None:
    """The standard error of a mean of independent scores."""
    errors = [r.stderr for r in scores if r.stderr is not None]
    return math.hypot(*errors) / len(scores) if len(errors) == len(scores) else None
