"""The seam between the loop and how a model's state is laid out over ranks: one buffer, or shards of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from lehr.distributed.ranks import Ranks

if TYPE_CHECKING:
    from lehr.train.state import TrainState


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


class Saves(Protocol):
    """Where a stage in progress saves itself. Every rank makes the same calls. `alone`: rank 0 can save without the others."""

    alone: bool

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None], regular: bool = True) -> None:
        """Begin to write `state`; `done` hears the bytes on rank 0 when all is there. `regular` saves come at the recipe's
        interval. Raises what the last one failed with."""

    def restore(self, state: TrainState, before: int | None = None) -> int | None:
        """Copy the newest good save into `state`, with `before` the newest regular one that was made before that step; returns
        how long the log was, or None where there is nothing."""

    def forget_after(self, step: int) -> None:
        """Take away what was saved after `step`; rank 0 calls it."""

    def wait(self) -> None:
        """Return when nothing is being written. Raises what writing failed with."""
