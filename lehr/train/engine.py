"""The seam between the loop and how a model's state is laid out over ranks: one buffer, or shards of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lehr.distributed.ranks import Ranks


class Engine(Protocol):
    """Parameters, gradients and optimiser state of this rank. Every rank makes the same calls in the same order.

    `updates` counts the updates really made. A step is: `zero`, backward passes with `collect` after each, `sum_`, `clip`,
    and `update` unless the guard refuses.
    """

    updates: int

    def zero(self) -> None:
        """Forget the gradients."""

    def collect(self) -> None:
        """Take up what one backward pass left behind."""

    def sum_(self, scalars: Tensor, ranks: Ranks) -> None:
        """Sum the gradients, and `scalars` (float64) in place, over the ranks that hold parts of the batch."""

    def clip(self, weight: float, limit: float) -> float:
        """Divide the gradients by `weight`, then scale them so that their global 2-norm is at most `limit`; returns the norm
        before, the same on every rank."""

    def update(self, lr: float) -> None:
        """One step of the optimiser with learning rate `lr`, scaled by group."""
