"""How a stage's work and state are laid out over processes."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lehr.config.base import Config, NonNegative, Positive
from lehr.config.model import Model

Layout = Literal["flat", "ddp", "zero1", "fsdp", "hybrid"]
Recompute = Literal["none", "selective", "full"]


class Parallel(Config):
    """Processes of a stage (gloo on CPU, NCCL on GPUs), threads in each, and what each process holds. Part of a run's identity:

    sums over ranks are taken in rank order, so another world size gives equal batches but other last bits.
    `layout`: every rank holds everything (flat, usually called ddp); the optimiser state is sharded over the ranks (zero1);
    weights and gradients too (fsdp), or within each of `replicas` groups (hybrid). `tensor` ranks divide every matrix product,
    `pipeline` ranks the layers; there are processes / (tensor * pipeline) data-parallel ranks. This applies to next-token
    training only; chat training and evaluation use all processes as data-parallel ranks that hold everything.
    """

    processes: Positive = 1
    threads: Positive = 1
    micro_batch: NonNegative = (
        0  # sequences at once on each rank, with gradient accumulation; 0: all of its share, in a pipeline one
    )
    layout: Layout = "flat"
    replicas: Positive = 1  # hybrid only: groups that each hold the whole state
    tensor: Positive = 1
    pipeline: Positive = 1
    activation_checkpointing: Recompute = (
        "none"  # recomputed in the backward pass: all but matrix products (selective), or each whole block (full)
    )

    def by(self, processes: int) -> Parallel:
        """The layout of a stage whose ranks each hold everything, with a number of processes of its own; 0: as here."""
        return Parallel(processes=processes, threads=self.threads) if processes not in (0, self.processes) else self

    @property
    def whole(self) -> bool:
        """Whether every rank holds the whole state."""
        return self.layout in ("flat", "ddp")

    @property
    def compiles(self) -> bool:
        """Whether torch.compile works with this layout: torch 2.13 fails with tensor parallelism and full recomputation."""
        return self.tensor == 1 or self.activation_checkpointing != "full"

    @property
    def data_ranks(self) -> int:
        """The number of ranks among which a batch is divided."""
        return self.processes // (self.tensor * self.pipeline)

    @property
    def shards(self) -> int:
        """The number of ranks over which a data-parallel group's state is sharded."""
        return self.data_ranks // self.replicas

    @property
    def described(self) -> str:
        """The layout in a few words, such as `fsdp x4, tensor 2`."""
        sizes = {"replicas": self.replicas, "tensor": self.tensor, "pipeline": self.pipeline}
        return ", ".join([f"{self.layout} x{self.processes}", *(f"{k} {n}" for k, n in sizes.items() if n > 1)])

    @model_validator(mode="after")
    def _fits(self) -> Parallel:
        model_ranks = self.tensor * self.pipeline
        if model_ranks > 1 and self.layout not in ("fsdp", "hybrid"):
            key = "tensor" if self.tensor > 1 else "pipeline"
            raise ValueError(
                f"layout={self.layout} with {key}={getattr(self, key)}; set layout to fsdp, or to hybrid with replicas"
            )
        if self.processes % model_ranks:
            raise ValueError(
                f"processes={self.processes} is not a multiple of tensor * pipeline={model_ranks}; change one of them"
            )
        if self.replicas > 1 and self.layout != "hybrid":
            raise ValueError(f"replicas={self.replicas} with layout={self.layout}; set layout to hybrid, or leave replicas out")
        if self.data_ranks % self.replicas:
            raise ValueError(
                f"replicas={self.replicas} does not divide {self.data_ranks} data-parallel ranks; change one of them"
            )
        if not self.whole and self.processes == 1:
            raise ValueError(f"layout={self.layout} with processes=1; raise processes, or leave layout out")
        return self

    def check_model(self, model: Model) -> None:
        """Raises ValueError if `model` cannot be divided like this."""
        if self.tensor > 1:
            sizes = {name: getattr(model, name) for name in ("n_heads", "n_kv_heads", "mlp_hidden", "vocab_size")}
            for name, size in sizes.items():
                if size % self.tensor:
                    raise ValueError(f"parallel.tensor={self.tensor} does not divide model.{name}={size}; change one of them")
        if self.pipeline > model.n_layers:
            raise ValueError(f"parallel.pipeline={self.pipeline} is more than model.n_layers={model.n_layers}; lower it")
        if model.n_experts and self.tensor * self.pipeline > 1:
            key = "tensor" if self.tensor > 1 else "pipeline"
            raise ValueError(
                f"parallel.{key}={getattr(self, key)} with model.n_experts={model.n_experts}; "
                f"leave parallel.{key} out: experts are sharded by fsdp and hybrid only"
            )

    def check_batch(self, key: str, rows: int) -> None:
        """Raises ValueError if a global batch of `rows`, the recipe's `key`, cannot be divided among the ranks."""
        if rows % self.data_ranks:
            cut = "" if self.tensor * self.pipeline == 1 else f" / {self.tensor * self.pipeline}"
            named = f"parallel.processes={self.processes}{cut}"
            raise ValueError(f"{key}={rows} is not a multiple of {named}; change one of them")
        share, micro = rows // self.data_ranks, self.micro_batch or 1
        if self.pipeline > 1 and (share % micro or share // micro < self.pipeline):
            raise ValueError(
                f"{key}={rows} gives each pipeline {share} sequences, in micro-batches of {micro}, and it needs at least "
                f"parallel.pipeline={self.pipeline} whole ones; raise it, or lower parallel.micro_batch"
            )
