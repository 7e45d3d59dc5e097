"""A conversation as tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rendered:
    """One rendered conversation: token ids, and the mask of those that have a loss."""

    ids: list[int]
    mask: list[bool]
