"""The clock that stages are timed by."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds, monotonic: replaced in tests."""

    def seconds(self) -> float: ...


class SystemClock:
    def seconds(self) -> float:
        return time.monotonic()
