"""The interface between the training loop and how a model's state is laid out over ranks: one buffer, or shards of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lehr.distributed.ranks import Ranks


class Engine(Protocol):
    """Parameters, gradients and optimiser state of this rank. Every rank makes the same calls in the same order.

    `updates` counts the updates made, without the skipped ones. A step is: `zero`, backward passes with `collect` after each,
    `sum_`, `clip`, and `update` unless the guard refuses it.
    """

    updates: int

    def zero(self) -> None:
        """Set the gradients to zero."""

    def collect(self) -> None:
        """Add the gradients of the last backward pass to the accumulated ones."""

    def sum_(self, scalars: Tensor, ranks: Ranks) -> None:
        """Sum the gradients and, in place, `scalars` (float64) over the ranks among which the batch is divided."""

    def clip(self, weight: float, limit: float) -> float:
        """Divide the gradients by `weight`, then scale them so that their global 2-norm is at most `limit`; returns the norm
        before the scaling, the same on every rank."""

    def update(self, lr: float) -> None:
        """One optimiser step with learning rate `lr`, which each parameter group scales."""
