"""Memory that a run uses, for the exporter: read on demand, at most once a second."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from lehr.monitoring import machine
from lehr.monitoring.gpus import Gpus, Reading

FRESH_SECONDS = 1.0  # all metrics of one scrape come from one reading


class Usage:
    """Bytes; NaN if nothing can be read."""

    def __init__(
        self,
        gpus: Gpus | None = None,
        read: Callable[[], machine.Memory] = machine.tree_memory,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` and `now` are replaced in tests."""
        self._gpus, self._read, self._now = gpus, read, now
        self._lock = threading.Lock()
        self._looked_at, self._memory, self._peak = -math.inf, machine.Memory(0, 0), 0
        self._readings: dict[int, Reading] = {}

    def resident(self) -> float:
        """Resident memory of this process and all its descendants."""
        self._look()
        return self._memory.now or math.nan

    def peak(self) -> float:
        """The largest value so far: never decreases, although a process that ends no longer counts in a reading."""
        self._look()
        return self._peak or math.nan

    def gpus(self) -> list[int]:
        """Indices of the GPUs whose memory is known."""
        self._look()
        return [index for index, reading in self._readings.items() if reading.used is not None]

    def gpu_used(self, index: int) -> float:
        """Memory used by all processes on that GPU."""
        self._look()
        reading = self._readings.get(index)
        return math.nan if reading is None or reading.used is None else float(reading.used)

    def gpu_size(self, index: int) -> float:
        self._look()
        reading = self._readings.get(index)
        return math.nan if reading is None or reading.total is None else float(reading.total)

    def _look(self) -> None:
        with self._lock:
            if self._now() - self._looked_at < FRESH_SECONDS:
                return
            self._looked_at, self._memory = self._now(), self._read()
            self._peak = max(self._peak, self._memory.peak)
            self._readings = {reading.index: reading for reading in (self._gpus.read() if self._gpus else ())}
