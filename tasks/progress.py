"""A tracker that records a run's progress, for a pod's termination message, and which stages were reused."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import write_atomic
from lehr.runtime.ports import NullTracker

FILE = "LEHR_PROGRESS_FILE"  # environment: where the step of the newest state that is kept goes, for tasks/pod_ranks.py


class Progress(NullTracker):
    """Records the run, its step, and step and Unix time of its newest checkpoint."""

    def __init__(self, run: str) -> None:
        self._run, self._stage = run, ""
        self._step, self._begun_step, self._saved_step, self._saved_at = 0, 0, 0, 0.0
        self._copied_step, self._kept = 0, -1
        self.reused: set[str] = set()

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        if reused:
            self.reused.add(stage)

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        self._stage, self._step, self._begun_step, self._saved_step, self._saved_at = stage, 0, 0, 0, 0.0
        self._copied_step, self._kept = 0, -1

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if "checkpoint_seconds" in metrics:  # a save of the step before has begun; it is written while training goes on
            self._begun_step = step - 1
        if not self._saved_at:  # the first report: this process starts from a checkpoint of the step before, or from step 0
            self._saved_step, self._saved_at = step - 1, time.time()
        elif "checkpoint_bytes" in metrics:
            self._saved_step, self._saved_at = self._begun_step, time.time()
        if "copy_seconds" in metrics:  # a copy of the step before has begun, so that the one before it is made
            self._keep(self._copied_step)
            self._copied_step = step - 1
        self._keep(self._saved_step)
        self._step = step

    def _keep(self, step: int) -> None:
        if step > self._kept and (path := os.environ.get(FILE)):
            self._kept = step
            write_atomic(Path(path), str(step))

    def words(self) -> dict[str, Any]:
        """The record, under the keys that the controller reads (infra/controller/objects.py)."""
        found: dict[str, Any] = {"run": self._run, "stage": self._stage, "step": self._step}
        if self._saved_at:
            found |= {"checkpoint_step": self._saved_step, "checkpoint_at": round(self._saved_at, 3)}
        return found
