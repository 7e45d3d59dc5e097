"""The start of a sharded stage: from initial values or from a parent checkpoint, one parameter at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.engine import ShardedEngine
from lehr.distributed.sharding.losses import part_cross_entropy
from lehr.distributed.sharding.mesh import MeshCoordinates, mesh_coordinates
from lehr.distributed.sharding.model_shard import ModelShard, build
from lehr.distributed.sharding.objective import OnMesh, PipelineNextToken
from lehr.distributed.sharding.sharded_state import fill_from_flat, flat_order, sharded_state
from lehr.distributed.sharding.zero import Zero1
from lehr.model.init import initial_
from lehr.model.transformer import Transformer
from lehr.optim.adamw import FlatParameters
from lehr.optim.guard import SpikeGuard
from lehr.train.activation_checkpointing import checkpoint_activations
from lehr.train.checkpointing.checkpoint import OPTIMIZER, WEIGHTS, check_head
from lehr.train.engine import Engine
from lehr.train.loop import Objective
from lehr.train.losses import CrossEntropy, cross_entropy
from lehr.train.next_token import NextToken
from lehr.train.rollback_state import RollbackState
from lehr.train.state import MAIN, Trained, TrainState


@dataclass(frozen=True)
class Sharded:
    """A stage's initial state under a sharded layout. `place` is None for ZeRO-1, whose model is not sharded."""

    state: TrainState
    place: MeshCoordinates | None
    loss: Callable[..., CrossEntropy]

    def objective(self, inner: NextToken) -> Objective:
        """`inner` adapted to this layout."""
        if self.place is None:
            return inner
        part = self.state.model
        piped = PipelineNextToken(inner, part) if self.place.parallel.pipeline > 1 and isinstance(part, ModelShard) else inner
        return OnMesh(piped, self.place)


def init_sharded(ranks: Ranks, parallel: Parallel, config: Model, optim: Optim, dtype: torch.dtype, seed: int) -> Sharded:
    """A fresh model, with the initial values of the flat layout. Every rank draws all values in the same order and keeps its
    own part: the model does not depend on the layout."""
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}
    sharded = _empty(ranks, parallel, config, optim, dtype, shapes)
    _fill(sharded, _initial(config, shapes, seed))
    return sharded


def inherit(ranks: Ranks, parallel: Parallel, config: Model, optim: Optim, dtype: torch.dtype, parent: Path) -> Sharded:
    """A model with the weights and the optimiser state of checkpoint `parent`. Raises UserError unless that is a language
    model."""
    check_head(parent, "language")
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}
    sharded = _empty(ranks, parallel, config, optim, dtype, shapes)
    with safe_open(parent / WEIGHTS, "pt") as file:
        _fill(sharded, ((name, file.get_tensor(name)) for name in shapes))
    fill_from_flat(sharded_state(sharded.state), parent / OPTIMIZER, ("first", "second"), flat_order(config, optim))
    return sharded


def _empty(
    ranks: Ranks, parallel: Parallel, config: Model, optim: Optim, dtype: torch.dtype, shapes: dict[str, tuple[int, ...]]
) -> Sharded:
    guard, rollbacks = SpikeGuard(optim.guard), RollbackState(optim.guard.rollback)
    if parallel.layout == "zero1":
        model = Transformer(config).to(own_device(ranks))
        checkpoint_activations(model, parallel.activation_checkpointing)
        zero: Engine = Zero1(FlatParameters(model, optim, dtype, ranks.world), optim, ranks)
        return Sharded(TrainState({MAIN: Trained(model, zero, guard)}, rollbacks=rollbacks), None, cross_entropy)
    place = mesh_coordinates(ranks, parallel, dtype)
    part = build(config, place)
    engine = ShardedEngine(part, place, optim, shapes)
    return Sharded(TrainState({MAIN: Trained(part, engine, guard)}, rollbacks=rollbacks), place, part_cross_entropy)


def _initial(config: Model, shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in shapes.items():
        whole = torch.empty(shape)
        initial_(whole, name, config, generator)
        yield name, whole


def _fill(sharded: Sharded, values: Iterator[tuple[str, Tensor]]) -> None:
    engine = sharded_state(sharded.state)
    slices = engine.slices()
    for name, whole in values:
        if f"values.{name}" in slices:
            slices[f"values.{name}"].fill(whole)
    engine.publish()
