"""The resources that a stage's pod requests. They do not change a result, and a run on one machine ignores them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lehr.config.base import Config, NonNegative

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
Quantity = Annotated[str, Field(pattern=_QUANTITY)]


class Resources(Config):
    """Requests of one pod, which are its limits too, in Kubernetes' units."""

    cpu: Quantity = "2"
    memory: Quantity = "4Gi"
    gpus: NonNegative = 0


class Compute(Config):
    """Resources by class; `stages` overrides them for a stage by name (`stage1`, `sft`, `scores-soup`). Whatever is left out is
    as registered with the Flyte tasks."""

    cpu: Resources | None = None  # documents, tokenizer, shards, soup
    accelerator: Resources | None = None  # one process that computes with the model: import, export
    ranked: Resources | None = None  # training, sampling and scoring on the recipe's ranks
    stages: dict[str, Resources] = {}

    def of(self, name: str, resource_class: str) -> Resources | None:
        """The resources of the stage `name`, or None."""
        found: Resources | None = getattr(self, resource_class)
        return self.stages.get(name, found)
