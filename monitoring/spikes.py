"""The spike score while a run goes on: as lehr.train.stability.spike_score has it for a finished log, one value at a time."""

from __future__ import annotations

import math
from collections import deque

WINDOW, SIGMAS, FEWEST = 1000, 7.0, 32
SEVERAL = 5  # spikes that are borne: more are told, here and by the alert LehrSpikeStorm


class SpikeScore:
    """The share of values at least `SIGMAS` standard deviations off the mean of the up to `WINDOW` finite values before them
    (OLMo 2 section 3.2); one that is not finite counts as a spike. O(1) for each value."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque()
        self._count, self._spikes, self._since = 0, 0, 0
        self._origin = self._sum = self._squares = 0.0

    def add(self, value: float) -> float:
        """Returns the share so far, of this value too."""
        self._count += 1
        if not math.isfinite(value):
            self._spikes += 1
            return self._spikes / self._count
        self._spikes += self._stands_out(value)
        self._enter(value)
        return self._spikes / self._count

    @property
    def tells(self) -> bool:
        """Whether the share says anything yet: one spike of 88 steps is 1 %, and healthy. Told apart from a tenth of a per cent
        it can be after 1,000 steps, or when spikes are several."""
        return self._count >= WINDOW or self._spikes > SEVERAL

    def _stands_out(self, value: float) -> bool:
        n = len(self._seen)
        if n < FEWEST:
            return False
        mean = self._sum / n
        deviation = math.sqrt(max(self._squares / n - mean * mean, 0.0))
        distance = abs(value - self._origin - mean)
        return distance >= SIGMAS * deviation and distance > 1e-12 * max(1.0, abs(value))

    def _enter(self, value: float) -> None:
        self._seen.append(value)
        if len(self._seen) > WINDOW:
            gone = self._seen.popleft() - self._origin
            self._sum -= gone
            self._squares -= gone * gone
        own = value - self._origin
        self._sum += own
        self._squares += own * own
        self._since += 1
        if self._since >= WINDOW or len(self._seen) == 1:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Sum again, about the present mean: differences of large squares would lose their digits, and errors add up."""
        self._since = 0
        self._origin = math.fsum(self._seen) / len(self._seen)
        self._sum = math.fsum(x - self._origin for x in self._seen)
        self._squares = math.fsum((x - self._origin) ** 2 for x in self._seen)
