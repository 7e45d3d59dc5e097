"""The most memory that this process and its descendants held at once, each page counted once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from lehr.monitoring.machine import PROC, descendants, kilobytes

_SECONDS = 1.0  # between looks at least: a peak that is shorter may be missed
_SHARE = 0.01  # of a core that looks take at most: of a process that has loaded torch one takes 16 ms


def tree_share(proc: Path = PROC) -> int:
    """Bytes of the proportional set size (PSS) of this process and its descendants: of a page that n processes share each has
    an n-th, so ranks that share a library or a buffer have it once between them. 0 where the kernel does not say."""
    return sum(kilobytes(proc / str(pid) / "smaps_rollup").get("Pss", 0) for pid in (os.getpid(), *descendants(proc)))


class PeakMemory:
    """Looks every second, or more seldom where that would take a hundredth of a core, on a thread of its own, until closed."""

    def __init__(self, proc: Path = PROC, seconds: float = _SECONDS) -> None:
        self._proc, self._seconds, self._most, self._end = proc, seconds, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)
        self._thread.start()

    def bytes(self) -> int | None:
        """The most so far; None where the kernel does not say."""
        self._look()
        return self._most or None

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = self._seconds
        while not self._end.wait(pause):
            began = time.thread_time()
            self._look()
            pause = max(self._seconds, (time.thread_time() - began) / _SHARE)

    def _look(self) -> None:
        self._most = max(self._most, tree_share(self._proc))
