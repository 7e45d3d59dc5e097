"""ZeRO-1 on flat buffers (Rajbhandari et al. 2020): every rank holds all weights and gradients, but the optimiser state and
masters of its own slice only; it updates that slice and gathers the others' weights."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from lehr.config.optim import Optim
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.slices import Slices
from lehr.optim.adamw import FlatParameters, adamw_
from lehr.optim.groups import Group
from lehr.optim.norms import norm as norm_of


class Zero1:
    """See lehr.train.engine.Engine. The length of `flat`'s buffers must be a multiple of the number of ranks.

    A step costs one reduce-scatter of the gradients and one all-gather of the weights, together as much as an all-reduce.
    """

    def __init__(self, flat: FlatParameters, config: Optim, ranks: Ranks) -> None:
        self.flat, self.config, self.updates = flat, config, 0
        size = len(flat.grads) // ranks.world
        self.start, self.end = ranks.rank * size, (ranks.rank + 1) * size
        self.mixed = flat.work is not flat.values
        self.values = flat.values[self.start : self.end]
        if self.mixed:  # masters are kept for this rank's slice only; the working copies are whole
            self.values = self.values.clone()
            flat.values = flat.values.new_empty(0)
        self.grads, self.first, self.second = (torch.zeros_like(self.values) for _ in range(3))
        spans = [(g, max(start, self.start), min(end, self.end)) for g, start, end in flat.spans]
        self.spans: list[tuple[Group, int, int]] = [(g, a - self.start, b - self.start) for g, a, b in spans if a < b]

    def zero(self) -> None:
        """Set the gradients to zero."""
        self.flat.zero()

    def collect(self) -> None:
        """See FlatParameters.collect."""
        self.flat.collect()

    def sum_(self, scalars: Tensor, ranks: Ranks) -> None:
        """Sum this rank's slice of the gradients, and `scalars`, over the ranks."""
        self.flat.collect()
        dist.reduce_scatter_single(self.grads, self.flat.grads)
        ranks.sum_(scalars)

    def clip(self, weight: float, limit: float) -> float:
        """Divide the gradients by `weight` and clip them; returns the norm over all slices before clipping."""
        self.grads.div_(weight)
        total = norm_of(self.grads).double().square()
        dist.all_reduce(total)
        norm = float(total.sqrt())
        if norm > limit:
            self.grads.mul_(limit / norm)
        return norm

    def update(self, lr: float) -> None:
        """Update this rank's slice, then gather the weights of all ranks."""
        self.updates += 1
        adamw_(self.values, self.grads, self.first, self.second, self.spans, lr, self.config, self.updates)
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Round this rank's masters into the working copies, and gather the working copies of all ranks."""
        mine = self.flat.work[self.start : self.end]
        if self.mixed:
            mine.copy_(self.values)
        dist.all_gather_single(self.flat.work, mine.clone())

    def slices(self) -> dict[str, Slices]:
        """All masters and moments that this rank holds, by kind and name."""
        out, start = {}, 0
        for name, shape in self.flat.order:
            end = start + math.prod(shape)
            low, high = max(start, self.start), min(end, self.end)
            for kind, memory in (("values", self.values), ("first", self.first), ("second", self.second)):
                own = memory[low - self.start : max(low, high) - self.start]
                out[f"{kind}.{name}"] = Slices.of_range(shape, low - start, own)
            start = end
        return out
