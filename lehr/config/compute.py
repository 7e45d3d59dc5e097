"""What a stage's pod asks of a cluster. Nothing of it changes a result, and a run on one machine does not read it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lehr.config.base import Config, NonNegative

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
Quantity = Annotated[str, Field(pattern=_QUANTITY)]


class Resources(Config):
    """Requests, and limits alike, of one pod, in Kubernetes' words."""

    cpu: Quantity = "2"
    memory: Quantity = "4Gi"
    gpus: NonNegative = 0


class Compute(Config):
    """By resource class; `stages` overrides it for a stage by name (`stage1`, `sft`, `scores-soup`). What is left out is as the
    tasks were registered."""

    cpu: Resources | None = None  # documents, tokenizer, shards, soup
    accelerator: Resources | None = None  # one process that computes with the model: import, export
    ranked: Resources | None = None  # training, sampling and scoring on the recipe's ranks
    stages: dict[str, Resources] = {}

    def of(self, name: str, resource_class: str) -> Resources | None:
        """What the stage `name` asks for, or None."""
        found: Resources | None = getattr(self, resource_class)
        return self.stages.get(name, found)
