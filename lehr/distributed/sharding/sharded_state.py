"""Which parts of which tensors each layout holds, in one form for all of them. The flat layout holds everything."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import safe_open

from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.distributed.sharding.slices import Slices
from lehr.model.transformer import Transformer
from lehr.optim.adamw import AdamW, FlatParameters
from lehr.runtime.errors import Bug
from lehr.train.state import TrainState

KINDS = ("values", "first", "second")
Order = list[tuple[str, tuple[int, ...]]]  # names and shapes in the order of the flat buffers


class ShardedState(Protocol):
    """An engine that can list the parts of the whole state that it holds."""

    config: Optim
    updates: int

    def slices(self) -> dict[str, Slices]: ...

    def publish(self) -> None: ...


class WholeSlices:
    """The flat engine as a ShardedState: it holds everything."""

    def __init__(self, engine: AdamW) -> None:
        self.engine, self.config = engine, engine.config

    @property
    def updates(self) -> int:
        return self.engine.updates

    @updates.setter
    def updates(self, count: int) -> None:
        self.engine.updates = count

    def slices(self) -> dict[str, Slices]:
        out, start, e = {}, 0, self.engine
        for name, shape in e.flat.order:
            end = start + torch.Size(shape).numel()
            for kind, memory in (("values", e.flat.values), ("first", e.first), ("second", e.second)):
                out[f"{kind}.{name}"] = Slices.whole(memory[start:end].view(shape))
            start = end
        return out

    def publish(self) -> None:
        self.engine.flat.publish()


def sharded_state(state: TrainState) -> ShardedState:
    """The state's engine as a ShardedState. Raises Bug if more than one model is trained, which sharded saves do not
    support."""
    if state.further:
        raise Bug(f"a state with {', '.join(state.further)} beside its main model cannot be saved or read in shards")
    engine = state.optimizer
    return WholeSlices(engine) if isinstance(engine, AdamW) else cast(ShardedState, engine)


def flat_order(config: Model, optim: Optim) -> Order:
    """Names and shapes in the order of the flat buffers, without allocating them."""
    with torch.device("meta"):
        return FlatParameters(Transformer(config), optim).order


def fill_from_flat(engine: ShardedState, path: Path, kinds: tuple[str, ...], order: Order) -> None:
    """Fill this rank's part of `kinds`, and the count of updates, from a file that holds each kind as one flat buffer."""
    slices = engine.slices()
    with safe_open(path, "pt") as file:
        for kind in kinds:
            flat, start = file.get_slice(kind), 0
            for name, shape in order:
                end = start + torch.Size(shape).numel()
                if f"{kind}.{name}" in slices:
                    slices[f"{kind}.{name}"].fill(flat[start:end].view(shape))
                start = end
        engine.updates = int(file.get_tensor("updates"))
