"""The machines for which a plan is made: what they can do, draw and cost, and how the model is distributed over them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegativeFloat, Positive, PositiveFloat

Share = Annotated[float, Field(gt=0, le=1)]


class Parallelism(Config):
    """Degrees of parallelism. There are `count / (tensor * pipeline)` data-parallel ranks; `data` tells what is sharded over
    them: nothing (ddp), the optimiser state (zero1), weights and gradients too (fsdp), or these within each of `replicas`
    groups (hsdp)."""

    data: Literal["ddp", "zero1", "fsdp", "hsdp"] = "fsdp"
    replicas: Positive = 1  # hsdp only: groups that each hold the whole state
    tensor: Positive = 1
    pipeline: Positive = 1

    @model_validator(mode="after")
    def _replicas(self) -> Parallelism:
        if self.replicas > 1 and self.data != "hsdp":
            raise ValueError(f"replicas={self.replicas} with data={self.data}; set data to hsdp, or leave replicas out")
        return self


class Reported(Config):
    """Measurements or statements of a report about its own run, used instead of the plan's estimate. Totals over `stages`
    (names of stages; empty: all next-token training), divided among them by FLOPs."""

    gpu_hours: PositiveFloat | None = None
    it_kwh: PositiveFloat | None = None  # of the machines, before the building's PUE
    stages: list[str] = []
    citation: str

    @model_validator(mode="after")
    def _something(self) -> Reported:
        if self.gpu_hours is None and self.it_kwh is None:
            raise ValueError("reported: neither gpu_hours nor it_kwh is given; give one of them, or leave reported out")
        return self


class Hardware(Config):
    """Accelerators for `lehr plan`. A GPU-hour is an hour of one of them; on CPU one of them is a core."""

    accelerator: str
    count: Positive
    memory_gib: PositiveFloat  # of each, as its driver reports it
    peak_tflops: PositiveFloat  # of each: dense products in the training precision
    mfu: Share  # model FLOPs utilisation: FLOPs of `lehr.model.size.flops_per_token` per second over the peak
    stage_mfu: dict[str, Share] = {}  # for stages that differ, by name
    watts: PositiveFloat  # of each, with its share of the node, averaged over a run
    price_per_hour: NonNegativeFloat = 0.0  # of each; 0: no price is stated, and cost is 0
    currency: str = "USD"
    parallelism: Parallelism = Parallelism()
    micro_batch: Positive = 1  # sequences at once on each model replica
    activation_checkpointing: bool = False  # save only each block's input and recompute the block
    fused: bool = True  # fused attention, norms and activations, as under torch.compile; false: as Lehr runs on CPU
    usable: Share = 0.92  # of the memory: the rest goes to context, communication buffers and fragmentation
    reported: Reported | None = None
    citation: str = "estimate"

    @property
    def hours(self) -> str:
        """The unit of its hours: `core-hours` for a CPU's cores, otherwise `GPU-hours`."""
        words = set(re.findall(r"[a-z]+", self.accelerator.lower()))
        return "core-hours" if words & {"core", "cores", "cpu", "cpus"} and "gpu" not in words else "GPU-hours"

    @property
    def model_ranks(self) -> int:
        """The number of accelerators that hold one model together."""
        return self.parallelism.tensor * self.parallelism.pipeline

    @property
    def data_ranks(self) -> int:
        """The number of data-parallel ranks."""
        return self.count // self.model_ranks

    @property
    def shards(self) -> int:
        """The number of ranks over which the sharded part of the state is divided."""
        return self.data_ranks // self.parallelism.replicas

    @model_validator(mode="after")
    def _divides(self) -> Hardware:
        p = self.parallelism
        if self.count % self.model_ranks:
            raise ValueError(
                f"count={self.count} is not a multiple of parallelism.tensor * pipeline={self.model_ranks}; change one"
            )
        if self.data_ranks % p.replicas:
            raise ValueError(
                f"parallelism.replicas={p.replicas} does not divide {self.data_ranks} data ranks; change one of them"
            )
        return self
