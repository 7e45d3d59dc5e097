"""The interface between the training loop and the saves of an unfinished stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from lehr.train.state import TrainState


class Saves(Protocol):
    """Saves of an unfinished stage. Every rank makes the same calls. `alone`: rank 0 can save without the other ranks."""

    alone: bool

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None], regular: bool = True) -> None:
        """Start writing `state`; `done` is called on rank 0 with the bytes once the save is complete. `regular`: at the
        recipe's interval. Raises the error with which the previous save failed."""

    def restore(self, state: TrainState, before: int | None = None) -> int | None:
        """Copy the newest undamaged save into `state`, with `before` the newest regular one made before that step; returns the
        log's length in bytes at that save, or None if there is no save."""

    def forget_after(self, step: int) -> None:
        """Delete the saves made after `step`; only rank 0 calls it."""

    def wait(self) -> None:
        """Wait until nothing is being written. Raises the error with which the last save failed."""

    def part(self, state: TrainState) -> dict[str, Tensor]:
        """What this rank holds of `state`, by name: its live memory, which must not be changed."""

    def restore_part(self, state: TrainState, tensors: dict[str, Tensor]) -> None:
        """The inverse of `part`."""

    def host_copy(self) -> dict[str, Tensor]:
        """By the names of `part`, what the newest save has copied to host memory on this rank. The next save overwrites it."""

    def newest_order(self) -> tuple[int, int] | None:
        """(rollbacks, step) of the newest save, damaged or not; known on rank 0 alone."""
