"""What a stage asks of a cluster. It does not change a result, and a run on one machine ignores it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lehr.config.base import Config, NonNegative, Positive

# After Kubernetes' rules: a mistake is told when the recipe is read, and not when a pod is made in the middle of a run.
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_OBJECT = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$"
_DEVICE = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
Label = Annotated[str, Field(pattern=_LABEL)]
Device = Annotated[str, Field(pattern=_DEVICE)]


class Resources(Config):
    """What each pod of a stage asks for, in Kubernetes' units; requests are limits too. What is left out is as the stage's
    class has it; else 1 core and 2Gi in the class `cpu`, 2 and 4Gi in the others, one node, no GPU, 120 s of grace."""

    nodes: Positive | None = None  # pods of one stage, each on a node of its own; the stage's processes are divided among them
    # Pods beyond them, each on a node of its own, that wait and take a lost one's place (lehr submit --backend kubernetes).
    spares: NonNegative | None = None
    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpus: NonNegative | None = None  # on each node, one for each process there
    accelerator: Label | None = None  # GPU model, as nodes are labelled: nvidia.com/gpu.product
    shared_memory: Quantity | None = None  # most of /dev/shm, which counts against `memory`
    disk: Quantity | None = None  # ephemeral storage
    pool: Label | None = None  # of nodes, as they are labelled: lehr.dev/pool
    priority: Annotated[str, Field(pattern=_OBJECT)] | None = None  # a PriorityClass
    interruptible: bool | None = None  # may run on nodes that the provider takes back
    image: Annotated[str, Field(pattern=_IMAGE)] | None = None  # instead of the run's; it contains Lehr too
    rdma: dict[Device, Positive] | None = None  # devices of the network's plug-in on each node, such as rdma/ib: 8
    grace_seconds: Positive | None = None  # to save a checkpoint when the pod has to leave


class Compute(Config):
    """Resources by class; `stages` overrides single ones of them for all stages of a kind (`evaluate`), and for one stage by
    name (`stage1`, `sft`, `scores-soup`)."""

    cpu: Resources | None = None  # documents, tokenizer, shards, soup, report
    accelerator: Resources | None = None  # one process that computes with the model: import, export
    ranked: Resources | None = None  # training, sampling and scoring on the recipe's ranks
    stages: dict[str, Resources] = {}

    def of(self, name: str, kind: str, resource_class: str) -> dict[str, Any]:
        """What is asked for the stage `name`, without what is left out."""
        levels: tuple[Resources | None, ...] = (getattr(self, resource_class), self.stages.get(kind), self.stages.get(name))
        found: dict[str, Any] = {}
        for level in levels:
            found |= level.model_dump(exclude_none=True) if level else {}
        return found
