"""What a run read: documents on their way to training, and the sets of conversations and preferences."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


# Of a source's review, in this order (lehr.config.governance.Review).
REVIEWED = (
    "content", "owner", "use", "restrictions", "classification", "acquired", "personal_information", "reviewer", "date",
)  # fmt: skip


class SourceFunnel(_Model):
    """One source on its way from read to kept. Counts are documents; `dropped` counts them by reason."""

    read: int
    kept: int
    characters: int = 0  # of the kept documents
    tokens: int | None = None  # of the kept documents
    dropped: dict[str, int] = {}
    damaged: dict[str, int] = {}  # rows and files that could not be read and were passed over, by reason
    license: str = ""
    origin: str = ""
    review: dict[str, str] | None = None  # the clearance: lehr.config.governance.Review


class SetReport(_Model):
    """One set of conversations or preferences that a step of post-training learned from. Counts are rows; `drawn` are those of
    an epoch, `tokens` and `trained_tokens` are of these, `share` is theirs of the step's trained tokens."""

    shape: str = ""
    read: int
    kept: int
    drawn: int
    tokens: int
    trained_tokens: int
    share: float
    dropped: dict[str, int] = {}
    license: str = ""
    origin: str = ""
