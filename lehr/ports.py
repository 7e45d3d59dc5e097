"""What the library asks of the world, as Protocols with null implementations: nothing here imports a service."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Seconds, monotonic: replaced in tests."""

    def seconds(self) -> float: ...


class SystemClock:
    def seconds(self) -> float:
        return time.monotonic()


class Power(Protocol):
    """Energy drawn so far by this process's share of the machine, in joules; `source` says measured or estimated."""

    source: str

    def joules(self) -> float: ...


class NullPower:
    source = "none"

    def joules(self) -> float:
        return 0.0


class Tracker(Protocol):
    """Listens to a run. Every method returns quickly and never raises: training does not stop for its spectators.

    `stage` is a recipe's stage name (`stage1`, `anneal-42`, ...). Metric names carry their unit.
    """

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None: ...

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None: ...

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None: ...

    def scored(self, stage: str, records: list[dict[str, object]]) -> None: ...

    def note(self, text: str) -> None: ...


class NullTracker:
    """Hears everything, says nothing."""

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        return None

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        return None

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        return None

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class Store(Protocol):
    """Where artifacts live. A name is absent or complete; there is no third state."""

    def find(self, name: str) -> str | None:
        """The uri of the complete artifact `name`, or None."""
        ...

    def fetch(self, uri: str) -> Path:
        """A local folder with the artifact's files. Raises UserError if there is none."""
        ...

    def scratch(self, name: str) -> Path:
        """A private folder for the attempt at `name`: survives a kill, so that the next attempt resumes."""
        ...

    def commit(self, name: str, folder: Path) -> str:
        """Publish `folder` (with its artifact.json) as `name`, atomically, and drop the scratch. Returns the uri."""
        ...
