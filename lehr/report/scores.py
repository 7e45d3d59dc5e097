"""Scores as a table: which stages, which columns, what is better, and the soup beside its ingredients."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

PIPELINE = ("stage1", "ramp", "anneal", "soup", "sft", "dpo", "rlvr")
_LOWER = re.compile(r"loss|bits_per_byte|bpb|perplexity|\bppl|nll|error|cross_entropy|nats")
_SHARE = re.compile(r"accuracy|strict|exact_match|(^|_)acc(_|$)|^em$|rate|share|pass|format|win|fraction|f1")


class ScoreRecord(BaseModel):
    """One line of scores.json. `stderr` is the standard error over the `n` examples, None if not known."""

    model_config = ConfigDict(extra="allow")

    stage: str
    task: str
    split: str
    metric: str
    value: float
    stderr: float | None = None
    n: int = 0
    seed: int | None = None


@dataclass(frozen=True, order=True)
class Column:
    """What a score measures."""

    split: str
    task: str
    metric: str

    @property
    def lower_is_better(self) -> bool:
        return bool(_LOWER.search(self.metric))

    @property
    def is_share(self) -> bool:
        """A number in [0, 1] that is shown as per cent."""
        return bool(_SHARE.search(self.metric)) and not self.lower_is_better

    @property
    def name(self) -> str:
        """The metric in words."""
        return " ".join({"acc": "accuracy", "char": "character"}.get(word, word) for word in self.metric.split("_"))

    @property
    def unit(self) -> str:
        """`%` for a share, else the metric's name."""
        return "%" if self.is_share else self.name

    @property
    def described(self) -> str:
        """`exact match, %` or `bits per byte ↓`."""
        return self.name + (", %" if self.is_share else " ↓" if self.lower_is_better else "")


@dataclass
class ScoreTable:
    """Rows are stages in the order of the pipeline, columns in the order in which they first appear."""

    stages: list[str] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[str, Column], ScoreRecord] = field(default_factory=dict)

    def best(self, column: Column) -> set[str]:
        """The stages with the best value of a column: several if they tie, none if all are equal."""
        values = {s: self.cells[s, column].value for s in self.stages if (s, column) in self.cells}
        values = {s: v for s, v in values.items() if math.isfinite(v)}
        if len(values) < 2:
            return set()
        top = (min if column.lower_is_better else max)(values.values())
        best = {s for s, v in values.items() if v == top}
        return best if len(best) < len(values) else set()

    def of(self, column: Column) -> list[tuple[str, ScoreRecord]]:
        """The stages that have this score, in order."""
        return [(s, self.cells[s, column]) for s in self.stages if (s, column) in self.cells]


def stage_order(stage: str) -> int:
    """Sort key: the pipeline's order, anneals as they came, unknown stages last."""
    family = stage.split("-", 1)[0]
    return PIPELINE.index(family) if family in PIPELINE else len(PIPELINE)


def score_matrix(records: Iterable[Mapping[str, object] | ScoreRecord]) -> ScoreTable:
    """The table of all records. A later record of the same stage and column replaces an earlier one."""
    table = ScoreTable()
    for record in records:
        r = record if isinstance(record, ScoreRecord) else ScoreRecord.model_validate(dict(record))
        column = Column(r.split, r.task, r.metric)
        if r.stage not in table.stages:
            table.stages.append(r.stage)
        if column not in table.columns:
            table.columns.append(column)
        table.cells[r.stage, column] = r
    table.stages.sort(key=stage_order)
    return table


@dataclass(frozen=True)
class SoupRow:
    """One column's comparison. `mean` is over the ingredients' values; `best` is the best ingredient."""

    column: Column
    soup: ScoreRecord
    ingredients: list[ScoreRecord]

    @property
    def mean(self) -> float:
        return sum(r.value for r in self.ingredients) / len(self.ingredients)

    @property
    def best(self) -> ScoreRecord:
        pick = min if self.column.lower_is_better else max
        return pick(self.ingredients, key=lambda r: r.value)

    @property
    def gain_over_mean(self) -> float:
        """Positive when the soup is better than the mean of its ingredients, in the metric's own unit."""
        return (self.mean - self.soup.value) if self.column.lower_is_better else (self.soup.value - self.mean)

    @property
    def gain_over_best(self) -> float:
        best = self.best.value
        return (best - self.soup.value) if self.column.lower_is_better else (self.soup.value - best)


def soup_rows(table: ScoreTable, soup: str = "soup", ingredients: Sequence[str] = ()) -> list[SoupRow]:
    """The soup against `ingredients` (by default every `anneal-*`), for each column that all of them have."""
    names = list(ingredients) or [s for s in table.stages if s.startswith("anneal")]
    rows = []
    for column in table.columns:
        of = dict(table.of(column))
        if soup in of and names and all(name in of for name in names):
            rows.append(SoupRow(column, of[soup], [of[name] for name in names]))
    return rows
