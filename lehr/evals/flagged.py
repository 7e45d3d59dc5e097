"""What a score says of its examples that stand in training documents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, FiniteFloat


class Without(BaseModel):
    """A score over the examples that no training document holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: FiniteFloat
    stderr: FiniteFloat | None
    n: int
    clusters: int


class Contamination(BaseModel):
    """What is known of a score's examples and the model's training documents. `compared` and `not_compared` are the stages
    that prepared these; counts are of examples: `kept`, those that a document holds that stayed in the training set,
    `removed`, those that only removed ones held. Both are None if nothing was compared: that is not zero. `documents` are the
    first (SOURCE/ID, those that stayed before others) of `document_count`; `without` is the score without the `kept`
    examples, None if there are no such examples or no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    compared: list[str]
    not_compared: list[str]
    kept: int | None = None
    removed: int | None = None
    documents: list[str] = []
    document_count: int = 0
    without: Without | None = None
