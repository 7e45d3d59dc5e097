"""The part of a transformer that one rank computes. Shapes: B batch, T positions, D model width, N chosen positions,
V vocabulary."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from lehr.config.model import Model
from lehr.distributed.sharding.mesh import MeshCoordinates
from lehr.distributed.sharding.tensor_parallel import gathered_logits, shard_model
from lehr.model.attention import Documents
from lehr.model.layers import KVCache, rope_tables, scaled
from lehr.model.moe import Routing
from lehr.model.transformer import Transformer
from lehr.runtime.errors import Bug
from lehr.train.activation_checkpointing import checkpoint_activations


class Routings:
    """Collects the routing statistics of the layers. Not a list: FSDP2's hooks hand a block a copy of every list argument."""

    def __init__(self) -> None:
        self.found: list[Routing] = []

    def append(self, routing: Routing) -> None:
        self.found.append(routing)


class ModelShard(Transformer):
    """The layers of one pipeline stage, under their names in the whole model; with one stage all of them.

    The first stage embeds; the last one has the final norm and the head; a tied embedding is on both. Made on the meta device,
    so that no rank ever holds the whole model. FSDP2 and pipelining call `forward`; `hidden` and `logits` are those of
    Transformer and contain collectives, so every rank must call them with the same arguments.
    """

    keeps_cache = False

    def __init__(self, config: Model, place: MeshCoordinates) -> None:
        super().__init__(config)
        self.place, self.routing = place, Routings()
        self.first, self.last = place.first, place.last
        stages, all_layers = place.parallel.pipeline, self.layers
        bounds = [config.n_layers * s // stages for s in range(stages + 1)]
        self.layers = nn.ModuleList()
        for i in range(bounds[place.stage], bounds[place.stage + 1]):
            self.layers.add_module(str(i), all_layers[i])
        if not (self.first or (self.last and config.tied_embeddings)):
            del self.embed
        if not self.last:
            del self.norm
            self.head = None

    def forward(self, x: Tensor, begins_BT: Tensor | None = None) -> Tensor:
        """Tokens (B, T) on the first stage, otherwise states (B, T, D), to (B, T, D), normed on the last stage."""
        mask: Tensor | None = None
        if begins_BT is not None:
            cos, sin, mask = self._document_positions(begins_BT)
        else:
            cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        if self.first:
            x = scaled(self.embed(x), self.config.embedding_multiplier)
            if isinstance(x, AsyncCollectiveTensor):
                x = x.clone()  # waits for the collective: compiled blocks would read it before it is complete (torch 2.13)
        for layer in self.layers:
            x = layer(x, cos, sin, mask, None, self.routing)
        out: Tensor = self.norm(x) if self.last else x
        return out

    def hidden(
        self,
        tokens_BT: Tensor,
        cache: KVCache | None = None,
        routing: list[Routing] | None = None,
        begins_BT: Tensor | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """See Transformer.hidden; without a cache. Over several pipeline stages without gradients, for evaluation only. Raises
        Bug for packed documents: post-training is not sharded."""
        if documents is not None:
            raise Bug("a sharded model was given packed documents")
        self.routing.found = []
        if self.place.parallel.pipeline > 1:
            return self._through_stages(tokens_BT)
        out: Tensor = self(tokens_BT, begins_BT)
        if routing is not None:
            routing.extend(self.routing.found)
        return out

    @torch.no_grad()
    def _through_stages(self, tokens_BT: Tensor) -> Tensor:
        """Run the stages in turn and broadcast each one's result: all stages return the last one's."""
        x, group = tokens_BT, self.place.group("pipeline")
        shape = (*tokens_BT.shape, self.config.d_model)
        for stage in range(self.place.parallel.pipeline):
            here = stage == self.place.stage
            x = self(x) if here else torch.empty(shape, dtype=self.place.activations, device=tokens_BT.device)
            dist.broadcast(x, group=group, group_src=stage)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V), the whole vocabulary on every rank."""
        stages = self.place.parallel.pipeline
        if stages == 1 or self.last:
            out = gathered_logits(self, hidden) if self.place.parallel.tensor > 1 else super().logits(hidden)
        if stages > 1:
            if not self.last:
                out = hidden.new_empty((*hidden.shape[:-1], self.config.vocab_size))
            dist.broadcast(out, group=self.place.group("pipeline"), group_src=stages - 1)
        return out

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, D) with which this rank computes."""
        return self.embed.weight if self.head is None else self.head.weight


def build(config: Model, place: MeshCoordinates) -> ModelShard:
    """This rank's part of the model, sharded, its parameters still without values; only the rotary tables are filled.

    Every block is a unit of FSDP2, and everything outside the blocks is another. Compute is in `place.activations`, gradients
    are reduced in fp32, masters stay fp32. Gradients are summed, not averaged: the loop divides once by the global weight.
    """
    with torch.device("meta"):
        part = ModelShard(config, place)
    if place.parallel.tensor > 1:
        shard_model(part, place.mesh["tensor"])
    checkpoint_activations(part, place.parallel.activation_checkpointing)
    # Inputs are not cast: the rotary tables must stay fp32.
    policy = MixedPrecisionPolicy(place.activations, torch.float32, cast_forward_inputs=False)
    alone = place.parallel.pipeline > 1  # a stage runs its blocks once for each micro-batch: keep them gathered in between
    for layer in part.layers:
        fully_shard(layer, mesh=place.fsdp_mesh, mp_policy=policy, reshard_after_forward=not alone)
    fully_shard(part, mesh=place.fsdp_mesh, mp_policy=policy, reshard_after_forward=False)  # the loss uses the head at once
    for module in part.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    part.to_empty(device=place.device)
    cos, sin = rope_tables(config.rotary_dim, config.max_seq_len, config.rope_theta)
    part.cos.copy_(cos)
    part.sin.copy_(sin)
    return part
