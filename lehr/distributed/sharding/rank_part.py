"""A rank's part of a sharded state as plain tensors, for copies that only the same layout reads."""

from __future__ import annotations

import torch
from torch import Tensor

from lehr.distributed.sharding.restore import PROGRESS
from lehr.distributed.sharding.sharded_state import sharded_state
from lehr.distributed.sharding.slices import Slices
from lehr.train.state import TrainState

_UPDATES = "updates"


def slices_of(state: TrainState) -> dict[str, Slices]:
    """What a save holds of this rank's, by name: its blocks of the sharded state, and the progress, which every rank has."""
    progress = {PROGRESS + name: Slices.whole(tensor) for name, tensor in state.progress().items()}
    return {**sharded_state(state).slices(), **progress}


def block_name(name: str, offset: tuple[int, ...]) -> str:
    """Names a block of the tensor `name`."""
    return f"{name}@{','.join(map(str, offset))}"


def part_of(state: TrainState) -> dict[str, Tensor]:
    """The same as tensors by the names of their blocks, with the count of updates."""
    blocks = {block_name(name, b.offset): b.tensor for name, its in slices_of(state).items() for b in its.chunks}
    return {**blocks, _UPDATES: torch.tensor(sharded_state(state).updates)}


@torch.no_grad()
def restore_part(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """The inverse of `part_of`, under the same layout."""
    engine = sharded_state(state)
    for name, its in engine.slices().items():
        for block in its.chunks:
            block.tensor.copy_(tensors[block_name(name, block.offset)])
    engine.updates = int(tensors[_UPDATES])
    engine.publish()
    progress = {key.rpartition("@")[0]: tensor for key, tensor in tensors.items() if key.startswith(PROGRESS)}
    state.restore_progress({name.removeprefix(PROGRESS): tensor for name, tensor in progress.items()})
