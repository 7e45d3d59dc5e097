"""Who gave a score that no function gives: a judge, or a classifier of texts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from lehr.config.judged_checks import Who

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]


class JudgedBy(BaseModel):
    """`model` is the judge's or classifier's name, `digest` that of all that tells it from others (template, pattern,
    temperature, samples, a file's content): only scores of equal ones can be compared. `prompt` is the hash of a judge's
    template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["judge", "classifier"]
    model: Who
    digest: Hash
    prompt: Hash = ""
    temperature: FiniteFloat | None = None
    samples: int | None = None
    label: str = ""
    threshold: FiniteFloat | None = None

    @property
    def words(self) -> str:
        """`judge NAME (prompt 1a2b3c4d, temperature 0)`."""
        if self.kind == "classifier":
            of = f"{self.label!r}, " if self.label else ""
            return f"classifier {self.model} ({of}threshold {self.threshold:g})"
        times = f", {self.samples} samples" if (self.samples or 1) > 1 else ""
        return f"judge {self.model} (prompt {self.prompt[:8]}, temperature {self.temperature or 0:g}{times})"
