"""AdamW on flat buffers: clipping, moments and update take a handful of kernels, whatever the number of layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import adamw

from lehr.config.optim import Optim
from lehr.model.transformer import Backbone
from lehr.optim.groups import Group, group_of
from lehr.optim.norms import norm as norm_of
from lehr.runtime.errors import UserError


class FlatParameters:
    """A model's trained parameters and gradients as flat fp32 buffers, `values` and `grads`, sorted by optimiser group.

    At `dtype` fp32 the model's own tensors are views of them. At bf16 the model computes with bf16 working copies (views of
    `work`), while the optimiser updates fp32 masters: during a backward pass each working gradient is added to the fp32 ones as
    soon as it is complete, and freed; after each update `publish` rounds the masters into the working copies.
    `spans` are the groups with their (start, end) in the buffers. `order` lists names and shapes in buffer order. The buffers'
    size is rounded up to a `multiple`.
    """

    def __init__(self, model: Backbone, optim: Optim, dtype: torch.dtype = torch.float32, multiple: int = 1) -> None:
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]  # LoRA freezes the others
        named = [(group_of(n, p.dim(), model.config, optim), n, p) for n, p in trained]
        # By group, so that each is one span of the buffers and one call of the fused kernel.
        named.sort(key=lambda entry: entry[0], reverse=True)  # stable: inside a group the model's own order
        self.order = [(n, tuple(p.shape)) for _, n, p in named]
        size, device = sum(p.numel() for _, _, p in named), named[0][2].device
        size += -size % multiple  # ZeRO-1 gives every rank an equal slice
        self.values = torch.empty(size, dtype=torch.float32, device=device)
        self.grads = torch.zeros(size, dtype=torch.float32, device=device)  # zeros: a norm covers the padding too
        self.work = self.values if dtype == torch.float32 else self.values.to(dtype)
        self.stale: set[tuple[int, int]] = set()  # ranges of `grads` that hold an old step's gradients, to be overwritten
        self.spans: list[tuple[Group, int, int]] = []
        self.ranges: list[tuple[int, int]] = []
        start = 0
        for group, _, parameter in named:
            end = start + parameter.numel()
            self.values[start:end] = parameter.detach().reshape(-1)
            parameter.data = self.work[start:end].view(parameter.shape)
            if dtype == torch.float32:
                parameter.grad = self.grads[start:end].view(parameter.shape)  # autograd adds into it in place
            else:
                parameter.register_post_accumulate_grad_hook(self._taker(start, end))  # type: ignore[no-untyped-call]
                self.ranges.append((start, end))
            if self.spans and self.spans[-1][0] == group:
                self.spans[-1] = (group, self.spans[-1][1], end)
            else:
                self.spans.append((group, start, end))
            start = end
        self.publish()

    def _taker(self, start: int, end: int) -> Callable[[Tensor], None]:
        """A hook that adds a working gradient to `grads` while it is still in the cache, and frees it."""

        def take(parameter: Tensor) -> None:
            assert parameter.grad is not None
            gradient, own = parameter.grad.view(-1), self.grads[start:end]
            if (start, end) in self.stale:
                own.copy_(gradient)  # saves the pass that would zero them first
                self.stale.remove((start, end))
            else:
                own.add_(gradient)
            parameter.grad = None

        return take

    def zero(self) -> None:
        """Drop the gradients. Ranges that the next backward pass will overwrite are only marked, not written."""
        if self.ranges:
            self.stale.update(self.ranges)
        else:
            self.grads.zero_()

    def collect(self) -> None:
        """Call after a backward pass: zero the marked ranges that it did not reach, whose old gradients would count again."""
        for start, end in self.stale:
            self.grads[start:end].zero_()
        self.stale.clear()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the fp32 masters into the working copies. Nothing to do if the model computes in fp32."""
        if self.work is not self.values:
            self.work.copy_(self.values)

    def masters(self) -> dict[str, Tensor]:
        """The fp32 parameters by name, as views of `values`."""
        out, start = {}, 0
        for name, shape in self.order:
            end = start + math.prod(shape)
            out[name] = self.values[start:end].view(shape)
            start = end
        return out


class Summing(Protocol):
    """The ranks over which gradients are summed."""

    def sum_(self, tensor: Tensor) -> None: ...


class AdamW:
    """Decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected moments: equal to torch.optim.AdamW.

    State is `first` and `second`, flat fp32 like the parameters, and `updates`, the count of updates made. With its flat
    buffers it is the loop's engine (lehr.train.engine) when every rank holds the whole state.
    """

    def __init__(self, flat: FlatParameters, config: Optim) -> None:
        self.flat, self.config = flat, config
        self.first, self.second = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
        self.updates = 0

    def zero(self) -> None:
        """Drop the gradients."""
        self.flat.zero()

    def collect(self) -> None:
        """See FlatParameters.collect."""
        self.flat.collect()

    def sum_(self, scalars: Tensor, ranks: Summing) -> None:
        """Sum gradients and `scalars` over ranks, in place."""
        self.flat.collect()
        ranks.sum_(self.flat.grads)
        ranks.sum_(scalars)

    def clip(self, weight: float, limit: float) -> float:
        """Divide the gradients by `weight` and clip them; returns their norm before clipping."""
        return clip_(self.flat.grads, limit, weight)

    def inherited(self) -> dict[str, Tensor]:
        """The state that a child stage inherits beside the weights (mid-training continues the optimiser, as OLMo 2's code
        does)."""
        return {"first": self.first, "second": self.second, "updates": torch.tensor(self.updates)}

    def inherit(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy in a parent's `inherited`. Raises UserError if it belongs to another model."""
        if tensors["first"].shape != self.first.shape:
            raise UserError("this optimiser state belongs to another model", where=where, remedy="use its own checkpoint")
        self.first.copy_(tensors["first"])
        self.second.copy_(tensors["second"])
        self.updates = int(tensors["updates"])

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state, for a save."""
        return {"values": self.flat.values, **self.inherited()}

    def restore(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy in, never alias: kernels may sum in another order at another memory alignment, which would change the bits of a
        resumed run. Raises UserError if the tensors belong to another model."""
        self.flat.values.copy_(tensors["values"])
        self.flat.publish()
        self.inherit(tensors, where)

    def update(self, lr: float) -> None:
        """One update from `flat.grads` with learning rate `lr`, scaled by group."""
        self.updates += 1
        adamw_(self.flat.values, self.flat.grads, self.first, self.second, self.flat.spans, lr, self.config, self.updates)
        self.flat.publish()


@torch.no_grad()
def adamw_(
    values: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    spans: list[tuple[Group, int, int]],
    lr: float,
    config: Optim,
    updates: int,
) -> None:
    """Update flat `values` and their moments in place, for the `updates`th time; `spans` are the groups in them. Uses PyTorch's
    fused kernel, which passes over each group's memory once."""
    for group, start, end in spans:
        own = slice(start, end)
        adamw.adamw(
            [values[own]], [grads[own]], [first[own]], [second[own]], [],
            [torch.tensor(float(updates - 1), device=values.device)],  # the step count, which the kernel increments itself
            fused=True, amsgrad=False, maximize=False, beta1=config.betas[0], beta2=config.betas[1], eps=config.eps,
            lr=lr * group.lr_scale, weight_decay=config.weight_decay if group.decays else 0.0,
        )  # fmt: skip


@torch.no_grad()
def clip_(grads: Tensor, limit: float, weight: float = 1.0) -> float:
    """Divide flat gradients by `weight` in place and scale them so that their global 2-norm is at most `limit`; returns the
    norm between the two operations."""
    # Not grads / weight first: dividing and clipping are one pass over the buffer.
    norm = float(norm_of(grads)) / weight
    factor = (limit / norm if norm > limit else 1.0) / weight  # a NaN norm is not above the limit: the guard refuses the step
    if factor != 1.0:
        grads.mul_(factor)
    return norm
