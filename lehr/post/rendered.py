"""A conversation as tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rendered:
    """One rendered conversation: token ids, the mask of those that have a loss, and the loss's weight."""

    ids: list[int]
    mask: list[bool]
    weight: float = 1.0
