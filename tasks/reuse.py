"""A spectator that remembers which stages were found again."""

from __future__ import annotations

from lehr.ports import NullTracker


class Reuse(NullTracker):
    """`stages` holds the names that were reused in this process."""

    def __init__(self) -> None:
        self.stages: set[str] = set()

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        if reused:
            self.stages.add(stage)

    def close(self, *, failed: bool = False) -> None:
        return None
