"""Tensor parallelism with DTensor: fused projections sharded by heads, a norm over a sharded width, and the loss over a sharded
vocabulary. Shapes: N chosen positions, D model width, V vocabulary, L this rank's share of it.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from lehr.config.model import Model
from lehr.distributed.sharding.mesh import MeshCoordinates
from lehr.distributed.sharding.slices import TPShard
from lehr.model.layers import Attention, Norm, scaled


class LogitsShard(Protocol):
    """The part of a model that holds a shard of the head."""

    config: Model
    place: MeshCoordinates

    @property
    def head_weight(self) -> Tensor: ...


def tp_shard_of(name: str, config: Model, index: int, count: int) -> TPShard:
    """The part of parameter `name` on rank `index` of `count`. Of a fused projection a rank holds the rows of its own heads (or
    of its own part of gate and up), which are several runs of the whole matrix."""
    if count == 1:
        return TPShard()
    q, kv, inner = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim, config.mlp_hidden
    parts = name.split(".")
    module = ".".join(parts[-3:-1])

    def run(start: int, width: int) -> tuple[int, int]:
        return start + index * width // count, width // count

    rows = {
        "attention.qkv": (run(0, q), run(q, kv), run(q + kv, kv)),
        "attention.q_norm": (run(0, q),),
        "attention.k_norm": (run(0, kv),),
        "mlp.gate_up": (run(0, inner), run(inner, inner)),
    }
    columns = {"attention.out": run(0, q), "mlp.down": run(0, inner)}
    if parts[0] in ("embed", "head"):
        return TPShard((run(0, config.vocab_size),))
    return TPShard(rows.get(module, ()), columns.get(module))


def shard_model(part: nn.Module, mesh: DeviceMesh) -> None:
    """Shard `part` over `mesh` in place: queries, keys, values, gate and up column-wise, the projections back to the residual
    stream row-wise (Shoeybi et al. 2019), embedding and head along the vocabulary."""
    plan: dict[str, ParallelStyle] = {
        "embed": RowwiseParallel(input_layouts=Replicate()),
        "head": ColwiseParallel(use_local_output=False),
    }
    plan |= {"layers.*.attention.qkv": ColwiseParallel(), "layers.*.attention.out": RowwiseParallel()}
    plan |= {"layers.*.mlp.gate_up": ColwiseParallel(), "layers.*.mlp.down": RowwiseParallel()}
    plan |= {"layers.*.attention.q_norm": ShardedNorm(), "layers.*.attention.k_norm": ShardedNorm()}
    present = [name for name, _ in part.named_modules()]
    kept = {key: style for key, style in plan.items() if any(_matches(key, name) for name in present)}
    parallelize_module(part, mesh, kept)
    for module in part.modules():
        if isinstance(module, Attention):
            module.heads, module.kv_heads = module.heads // mesh.size(), module.kv_heads // mesh.size()
            module.widths = [width // mesh.size() for width in module.widths]


def _matches(pattern: str, name: str) -> bool:
    asked, found = pattern.split("."), name.split(".")
    return len(asked) == len(found) and all(a in ("*", f) for a, f in zip(asked, found, strict=True))


class ShardedNorm(ParallelStyle):
    """RMSNorm over a width that is sharded over the ranks: they exchange one sum of squares for each row (OLMo 2's QK-norm is
    over the whole projection)."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, Norm) and module.weight is not None
        module.weight = nn.Parameter(distribute_tensor(module.weight, device_mesh, [Shard(0)]))
        module.__class__ = _ShardedRMSNorm  # a class for all: a forward closure for each module would be compiled for each
        assert isinstance(module, _ShardedRMSNorm)
        module.group = device_mesh.get_group()
        return module


class _ShardedRMSNorm(Norm):
    group: dist.ProcessGroup

    def forward(self, x: Tensor) -> Tensor:
        # fp32: squares of bf16 values, summed over a wide row, would lose most of their digits.
        wide = x.float()
        total = _Sum.apply(wide.square().sum(dim=-1, keepdim=True), self.group)  # type: ignore[no-untyped-call]
        normed = wide * torch.rsqrt(total / self.width + self.eps)
        return (normed * _local(self.weight).float()).to(x.dtype)


def _local(weight: Tensor | None) -> Tensor:
    if isinstance(weight, DTensor):
        out: Tensor = weight.to_local()
        return out
    raise TypeError(f"expected a sharded parameter, not {type(weight).__name__}")


def local_logits(part: LogitsShard, hidden_ND: Tensor) -> Tensor:
    """This rank's (N, L) of the logits; the gradient of `hidden_ND` is summed over the ranks."""
    group = part.place.group("tensor")
    logits_NL = torch.nn.functional.linear(_Same.apply(hidden_ND, group), _local(part.head_weight))  # type: ignore[no-untyped-call]
    return scaled(logits_NL, 1 / part.config.logits_scaling)


def gathered_logits(part: LogitsShard, hidden: Tensor) -> Tensor:
    """(..., D) -> (..., V) on every rank, without gradients."""
    mine = local_logits(part, hidden).detach().contiguous()
    count = part.place.parallel.tensor
    found = [torch.empty_like(mine) for _ in range(count)]
    dist.all_gather(found, mine, group=part.place.group("tensor"))
    return torch.cat(found, dim=-1)


def sharded_lse_and_label(logits_NL: Tensor, labels_N: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """logsumexp over the whole vocabulary, and the label's logit, each (N,), from this rank's fp32 logits: no rank ever holds
    more than its share of the logits."""
    lse_N, picked_N = _LseAndLabel.apply(logits_NL, labels_N, group)  # type: ignore[no-untyped-call]
    return lse_N, picked_N


class _Same(torch.autograd.Function):
    """Identity whose gradient is summed over the ranks: each rank used its input for a different part of the output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed, group=ctx.group)
        return summed, None


class _Sum(torch.autograd.Function):
    """The sum over ranks. Each rank uses the sum for a different part of the output, so its gradient is summed over them
    too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        out = x.clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].clone()
        dist.all_reduce(summed, group=ctx.group)
        return summed, None


class _LseAndLabel(torch.autograd.Function):
    """Both results are equal on every rank, and so are their gradients; each rank keeps its own share of the logits'
    gradient."""

    @staticmethod
    def forward(ctx: Any, logits_NL: Tensor, labels_N: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
        L, index = logits_NL.shape[1], dist.get_rank(group)
        # The maximum over all ranks is subtracted, as logsumexp does, so that exp cannot overflow.
        highest_N = logits_NL.amax(dim=1)
        dist.all_reduce(highest_N, dist.ReduceOp.MAX, group=group)
        own_N = labels_N - index * L
        here_N = (own_N >= 0) & (own_N < L)
        own_N = own_N.clamp(0, L - 1)
        # The label is on one rank only; the others clamp its index and add 0, so one sum yields both results.
        both = torch.stack([(logits_NL - highest_N[:, None]).exp().sum(dim=1), logits_NL.gather(1, own_N[:, None])[:, 0]])
        both[1].mul_(here_N)
        dist.all_reduce(both, group=group)
        lse_N = highest_N + both[0].log()
        ctx.save_for_backward(logits_NL, lse_N, own_N, here_N)
        return lse_N, both[1].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits_NL, lse_N, own_N, here_N = ctx.saved_tensors
        of_lse_N, of_picked_N = gradients
        out_NL = (logits_NL - lse_N[:, None]).exp().mul_(of_lse_N[:, None])
        out_NL.scatter_add_(1, own_N[:, None], (of_picked_N * here_N)[:, None])
        return out_NL, None, None
