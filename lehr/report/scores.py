"""Scores as a table: which stages, which columns, which is best, and a soup beside its ingredients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from lehr.evals.flagged import Contamination
from lehr.evals.items import HELD_OUT
from lehr.evals.judged_by import JudgedBy
from lehr.evals.parts import REPEATED
from lehr.evals.task import Part, without_empty
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.json_files import read_objects
from lehr.runtime.metrics import Metric, metric

JUDGED_NOTE = "Scores `by` a name are that model's opinion of the answers: they can be compared with no other judge's."


class ScoreRecord(BaseModel):
    """One line of scores.json. `stderr` is the standard error over the `clusters` (documents, prompts) that the `n` examples
    were drawn in, None if not known; 0 clusters: a record of an older run, which did not count them. `parts`: of texts that
    have sources, the score of each source and domain."""

    model_config = ConfigDict(extra="allow")

    stage: str
    task: str
    split: str
    metric: str
    value: float
    stderr: float | None = None
    n: int = 0
    clusters: int = 0
    seed: int | None = None
    parts: list[Part] = []
    contamination: Contamination | None = None
    scored_by: JudgedBy | None = Field(default=None, validation_alias=AliasChoices("scored_by", "judged_by"))

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self))


def known_error(record: ScoreRecord, about: Metric) -> float | None:
    """The standard error; of a share of 0 or 1 one side of Wilson's interval, as tables have it: the formula says 0 there."""
    if not record.stderr and about.is_share and record.value in (0.0, 1.0) and record.n > 1:
        return 1 / (record.n + 1)
    return record.stderr


def read_records(path: Path) -> list[ScoreRecord]:
    """Those of a scores.json, a run's or an artifact's. Raises UserError where it is missing or damaged."""
    remedy = "delete it and run the same command again"
    records = []
    for number, row in enumerate(read_objects(path, remedy), 1):
        try:
            records.append(ScoreRecord.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"no score ({'.'.join(map(str, first['loc']))}: {validators_words(first['msg'])})"
            raise UserError(what, where=f"{path}: number {number}", remedy=remedy) from None
    return records


@dataclass(frozen=True, order=True)
class Column:
    """What a score measures."""

    split: str
    task: str
    metric: str

    @property
    def about(self) -> Metric:
        """What the metric's declaration says of it."""
        return metric(self.metric)

    @property
    def is_repeated(self) -> bool:
        """Whether the task's bits per byte say the same of the same texts, so that verdicts count it once."""
        return self.metric in REPEATED


@dataclass
class ScoreTable:
    """Rows are stages, columns in the order in which they first appear."""

    stages: list[str] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[str, Column], ScoreRecord] = field(default_factory=dict)

    def best(self, column: Column) -> set[str]:
        """The stages with the best value of a column: several if they tie, none if all are equal or no way is better. None of
        held-out scores: what is chosen by them is no longer held out."""
        values = {s: self.cells[s, column].value for s in self.stages if (s, column) in self.cells}
        values = {s: v for s, v in values.items() if math.isfinite(v)}
        if column.split == HELD_OUT or len(values) < 2 or not column.about.better or column.about.baseline_of:
            return set()
        top = (min if column.about.better == "lower" else max)(values.values())
        best = {s for s, v in values.items() if v == top}
        return best if len(best) < len(values) else set()

    def of(self, column: Column) -> list[tuple[str, ScoreRecord]]:
        """The stages that have this score, in order."""
        return [(s, self.cells[s, column]) for s in self.stages if (s, column) in self.cells]

    def heading(self, column: Column) -> str:
        """What a column measures, and by whom, where a model judges: `a judge's rating, %, by NAME`."""
        by = dict.fromkeys(r.scored_by.model for _, r in self.of(column) if r.scored_by)
        return ", by ".join([column.about.heading, *by])

    @property
    def judged(self) -> list[tuple[Column, str]]:
        """The columns that a model judged, with what is to be known of it."""
        said = [(c, list(dict.fromkeys(r.scored_by.words for _, r in self.of(c) if r.scored_by))) for c in self.columns]
        return [(column, " and ".join(words)) for column, words in said if words]

    @property
    def of_models(self) -> list[Column]:
        """The columns that models have, without those of what they are compared with."""
        return [column for column in self.columns if not column.about.baseline_of]

    def baselines(self, column: Column) -> list[Column]:
        """What a column is compared with."""
        task = column.split, column.task
        return [c for c in self.columns if (c.split, c.task) == task and c.about.baseline_of == column.metric]

    def _beside(self) -> None:
        """Put each column's baselines right behind it."""
        placed = [each for column in self.of_models for each in (column, *self.baselines(column))]
        self.columns = [*placed, *(column for column in self.columns if column not in placed)]


def score_matrix(records: Iterable[Mapping[str, object] | ScoreRecord], order: Sequence[str] = ()) -> ScoreTable:
    """The table of all records: stages of `order` first and in that order, the others behind them as they first appear. A later
    record of the same stage and column replaces an earlier one."""
    table = ScoreTable()
    for record in records:
        r = record if isinstance(record, ScoreRecord) else ScoreRecord.model_validate(dict(record))
        column = Column(r.split, r.task, r.metric)
        if r.stage not in table.stages:
            table.stages.append(r.stage)
        if column not in table.columns:
            table.columns.append(column)
        table.cells[r.stage, column] = r
    places = {stage: place for place, stage in enumerate(order)}
    table.stages.sort(key=lambda stage: places.get(stage, len(places)))
    table._beside()
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
        """Where no way is better, the one with the highest value."""
        pick = min if self.column.about.better == "lower" else max
        return pick(self.ingredients, key=lambda r: r.value)

    @property
    def gain_over_mean(self) -> float:
        """Positive when the soup is better than the mean of its ingredients, in the metric's own unit."""
        return self._gain(self.mean)

    @property
    def gain_over_best(self) -> float:
        return self._gain(self.best.value)

    def _gain(self, over: float) -> float:
        return over - self.soup.value if self.column.about.better == "lower" else self.soup.value - over


def soup_rows(table: ScoreTable, soup: str, ingredients: Sequence[str]) -> list[SoupRow]:
    """The soup against its ingredients, for each column that all of them have."""
    rows = []
    for column in (column for column in table.columns if not column.is_repeated):
        of = dict(table.of(column))
        if soup in of and ingredients and all(name in of for name in ingredients):
            rows.append(SoupRow(column, of[soup], [of[name] for name in ingredients]))
    return rows
