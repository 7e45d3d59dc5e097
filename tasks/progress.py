"""A tracker that records a run's progress, for a pod's termination message, and which stages were reused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lehr.runtime.ports import NullTracker


class Progress(NullTracker):
    """Records the run, its step, and step and Unix time of its newest checkpoint."""

    def __init__(self, run: str) -> None:
        self._run, self._stage = run, ""
        self._step, self._begun_step, self._saved_step, self._saved_at = 0, 0, 0, 0.0
        self.reused: set[str] = set()

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        if reused:
            self.reused.add(stage)

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        self._stage, self._step, self._begun_step, self._saved_step, self._saved_at = stage, 0, 0, 0, 0.0

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if "checkpoint_seconds" in metrics:  # a save of the step before has begun; it is written while training goes on
            self._begun_step = step - 1
        if not self._saved_at:  # the first report: this process starts from a checkpoint of the step before, or from step 0
            self._saved_step, self._saved_at = step - 1, time.time()
        elif "checkpoint_bytes" in metrics:
            self._saved_step, self._saved_at = self._begun_step, time.time()
        self._step = step

    def words(self) -> dict[str, Any]:
        """The record, under the keys that the controller reads (infra/controller/objects.py)."""
        found: dict[str, Any] = {"run": self._run, "stage": self._stage, "step": self._step}
        if self._saved_at:
            found |= {"checkpoint_step": self._saved_step, "checkpoint_at": round(self._saved_at, 3)}
        return found
