"""The seam between the loop and how a stage in progress is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lehr.train.state import TrainState


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
