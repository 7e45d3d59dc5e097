"""Work that led to no artifact: stages that failed, or were given up."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Unfinished(BaseModel):
    """One stage's, over all attempts at it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float = 0.0
    energy: dict[str, float] = {}  # joules by source
    energy_gaps: list[str] = []  # what is missing from it
    attempts: int = 1
