"""What each example of a score gave, as a file of scores holds it: differences of two scores are paired by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from lehr.artifacts.artifact import REPEAT
from lehr.evals.parts import variants
from lehr.evals.task import Items, Over
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.json_files import read_rows

HELD_OUT = "held_out"


class ItemScores(BaseModel):
    """What each example of a score gave, as lehr.evals.run writes it; scores of equal `examples` are of the same ones, in the
    same order."""

    model_config = ConfigDict(frozen=True)

    stage: str
    task: str
    split: str
    metric: str
    examples: str
    values: list[FiniteFloat]
    weights: list[FiniteFloat]
    clusters: list[int]
    groups: list[int] = []
    names: list[tuple[str, str]] = []
    exp: bool = False
    over: Over = ""

    @model_validator(mode="after")
    def _of_one_length(self) -> ItemScores:
        if any(others and len(others) != len(self.values) for others in (self.weights, self.clusters)):
            raise ValueError("values, weights and clusters are not equally many")
        if self.groups and (
            len(self.groups) != len(self.values) or not 0 <= min(self.groups) <= max(self.groups) < len(self.names)
        ):
            raise ValueError("groups are not a number of names for each of values")
        return self

    @property
    def items(self) -> Items:
        return Items(self.values, self.weights, self.clusters, self.groups, self.names, self.exp, self.over)

    def variants(self) -> Iterator[ItemScores]:
        """These, and of texts that have sources those of their means and of each source."""
        for name, items in variants(self.metric, self.items):
            yield self.model_copy(update={**asdict(items), "metric": name})


def read_items(path: Path) -> list[ItemScores]:
    """Those of the held-out scores in an artifact's file; none where there is no file, as in runs of earlier versions. Raises
    UserError for a damaged one."""
    try:
        rows = [ItemScores.model_validate(row) for row in read_rows(path, REPEAT)] if path.is_file() else []
    except ValidationError as error:
        raise damaged(path, error) from None
    return [items for items in rows if items.split == HELD_OUT]


def damaged(path: Path, error: ValidationError) -> UserError:
    """A file of an artifact that holds something else than Lehr wrote."""
    first = error.errors()[0]
    what = f"damaged ({'.'.join(map(str, first['loc']))}: {validators_words(first['msg'])})"
    return UserError(what, where=path, remedy=REPEAT)
