"""The failure table: counts from a published run, and our assumptions, from a YAML file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.yaml_file import read_mapping

LLAMA3 = Path(__file__).with_name("llama3.yaml")
Chance = Field(default=0.0, ge=0, le=1)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Strict):
    days: float = Field(gt=0)
    gpus: int = Field(gt=0)
    gpus_per_node: int = Field(default=8, gt=0)
    interruptions: int = Field(gt=0)


class Assumptions(_Strict):
    recrash_seconds: float = Field(default=600, gt=0)
    lemon_fraction: float = Field(default=0.01, ge=0, lt=1)
    lemon_factor: float = Field(default=30, ge=1)
    rack_nodes: int = Field(default=16, gt=0)
    rack_outage_seconds: float = Field(default=3600, gt=0)
    repair_hours: float = Field(default=24, gt=0)
    no_fault_found: float = Field(default=0.2, ge=0, lt=1)
    false_failure: float = Field(default=1e-6, ge=0, lt=1)
    person_crashes: int = Field(default=3, ge=1)
    person_seconds: float = Field(default=600, ge=0)
    breaker_reset_seconds: float = Field(default=1800, gt=0)
    revalidation_seconds: float = Field(default=900, gt=0)


class FailureClass(_Strict):
    """Probabilities given one fault of this class; see the comment in llama3.yaml."""

    count: int = Field(ge=0)
    persistent: float = Chance
    quiet: float = Chance
    preflight: float = Chance
    condition: float = Chance
    revalidation: float = Chance
    trainer: float = Chance
    rack: float = Chance
    node: bool = True
    vanishes: bool = False


class FailureTable(_Strict):
    source: Source
    assumptions: Assumptions = Assumptions()
    classes: dict[str, FailureClass]

    @model_validator(mode="after")
    def _counts_sum(self) -> FailureTable:
        total = sum(c.count for c in self.classes.values())
        if total != self.source.interruptions:
            raise ValueError(f"the classes count {total} interruptions, source.interruptions says {self.source.interruptions}")
        return self

    @property
    def per_node_second(self) -> float:
        """Mean rate of faults of one node, including lemons, in 1/s."""
        nodes = self.source.gpus / self.source.gpus_per_node
        return self.source.interruptions / (self.source.days * 86400.0 * nodes)

    def memoryless(self) -> FailureTable:
        """The same rates under the closed form's assumptions: only transient crashes, all nodes alike, no people."""
        plain = {k: c.model_copy(update={"persistent": 0.0, "quiet": 0.0, "rack": 0.0}) for k, c in self.classes.items()}
        alike = self.assumptions.model_copy(update={"lemon_fraction": 0.0, "false_failure": 0.0, "person_crashes": 10**9})
        return self.model_copy(update={"classes": plain, "assumptions": alike})

    @classmethod
    def load(cls, path: Path = LLAMA3) -> FailureTable:
        """Read a table. Raises UserError with file, key and remedy."""
        try:
            return cls.model_validate(read_mapping(path, "failure table", f"see {LLAMA3.name} for the form"))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UserError(
                validators_words(first["msg"]), where=f"{path}: {key}", remedy=f"see {LLAMA3.name} for the form"
            ) from error
