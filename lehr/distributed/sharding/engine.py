"""The engine for FSDP2, tensor and pipeline parallelism: AdamW on this rank's shards, one gradient norm over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lehr.config.optim import Optim
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.mesh import MeshCoordinates
from lehr.distributed.sharding.model_shard import ModelShard
from lehr.distributed.sharding.slices import Slices, shard_pieces
from lehr.distributed.sharding.tensor_parallel import tp_shard_of
from lehr.optim.groups import Group, group_of, is_embedding


@dataclass(frozen=True)
class Shard:
    """This rank's part of one parameter: `local` are its fp32 masters, `first` and `second` the moments of the same shape;
    `copies` is the number of ranks that hold the same part."""

    name: str
    parameter: nn.Parameter
    group: Group
    shape: tuple[int, ...]  # of the whole parameter
    copies: int
    local: Tensor
    first: Tensor
    second: Tensor

    def gradient(self) -> Tensor:
        """This rank's part of the summed gradient; zeros if the parameter got none."""
        if self.parameter.grad is None:
            return torch.zeros_like(self.local)
        return _local(self.parameter.grad)


def _local(tensor: Tensor) -> Tensor:
    out: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return out


class ShardedEngine:
    """See lehr.train.engine.Engine. When `sum_` is called FSDP2 has already summed the gradients over the data-parallel
    ranks."""

    def __init__(self, part: ModelShard, place: MeshCoordinates, config: Optim, shapes: dict[str, tuple[int, ...]]) -> None:
        self.place, self.config, self.model_config, self.updates = place, config, part.config, 0
        self.tied = part.config.tied_embeddings and place.ends is not None
        shards = [self._shard(part, name, p, shapes[name]) for name, p in part.named_parameters()]
        # Sorted, so that `update` can group neighbours and call one foreach kernel for each group.
        self.shards = sorted(shards, key=lambda shard: shard.group, reverse=True)
        self._grads: list[Tensor] = []

    def _shard(self, part: ModelShard, name: str, parameter: nn.Parameter, shape: tuple[int, ...]) -> Shard:
        p, local = self.place.parallel, _local(parameter.detach())
        tp_shard = tp_shard_of(name, part.config, self.place.tensor, p.tensor)
        copies = p.replicas * (1 if tp_shard.some else p.tensor) * (2 if self.tied and is_embedding(name) else 1)
        group = group_of(name, len(shape), part.config, self.config)
        return Shard(name, parameter, group, shape, copies, local, torch.zeros_like(local), torch.zeros_like(local))

    def zero(self) -> None:
        """Drop the gradients, which also frees their memory."""
        for shard in self.shards:
            shard.parameter.grad = None

    def collect(self) -> None:
        """Nothing to do: FSDP2 accumulates each backward pass into the sharded fp32 gradients."""

    def sum_(self, scalars: Tensor, ranks: Ranks) -> None:
        """Sum `scalars` over all ranks, of which one in each model replica reports its own and the others zeros (see OnMesh),
        and a tied embedding's gradients over its two copies, on the first and the last pipeline stage."""
        ranks.sum_(scalars)
        self._grads = [shard.gradient() for shard in self.shards]
        if self.tied:
            for shard, grad in zip(self.shards, self._grads, strict=True):
                if is_embedding(shard.name):
                    dist.all_reduce(grad, group=self.place.ends)

    @torch.no_grad()
    def clip(self, weight: float, limit: float) -> float:
        """See Engine.clip. One all-reduce over all ranks; dividing by `copies` counts a part that several ranks hold once."""
        torch._foreach_div_(self._grads, weight)
        norms = torch.stack(torch._foreach_norm(self._grads)).double()
        copies = torch.tensor([shard.copies for shard in self.shards], dtype=torch.float64, device=norms.device)
        total = (norms.square() / copies).sum()
        dist.all_reduce(total)
        norm = float(total.sqrt())
        if norm > limit:
            torch._foreach_mul_(self._grads, limit / norm)
        return norm

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """AdamW as in lehr.optim.adamw, for a group of shards at a time."""
        beta1, beta2 = self.config.betas
        self.updates += 1
        pairs = zip(self.shards, self._grads, strict=True)
        for group, members in groupby(pairs, key=lambda pair: pair[0].group):
            both = list(members)
            grads = [grad for _, grad in both]
            values, first, second = ([getattr(shard, key) for shard, _ in both] for key in ("local", "first", "second"))
            torch._foreach_lerp_(first, grads, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
            denominators = torch._foreach_sqrt(second)
            torch._foreach_div_(denominators, (1 - beta2**self.updates) ** 0.5)
            torch._foreach_add_(denominators, self.config.eps)
            rate = lr * group.lr_scale
            if group.decays and self.config.weight_decay:
                torch._foreach_mul_(values, 1 - rate * self.config.weight_decay)
            torch._foreach_addcdiv_(values, first, denominators, value=-rate / (1 - beta1**self.updates))

    def slices(self) -> dict[str, Slices]:
        """All weights and moments that this rank holds, by kind and name: `values.NAME`, `first.NAME`, ..."""
        out = {}
        p = self.place.parallel
        for shard in self.shards:
            tp_shard = tp_shard_of(shard.name, self.model_config, self.place.tensor, p.tensor)
            for kind, memory in (("values", shard.local), ("first", shard.first), ("second", shard.second)):
                out[f"{kind}.{shard.name}"] = shard_pieces(shard.shape, tp_shard, self.place.shard, p.shards, memory)
        return out

    def publish(self) -> None:
        """Nothing to do after the masters were filled: FSDP2 gathers weights from the masters themselves."""
