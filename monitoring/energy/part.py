"""What a part of a machine offers to the meter, and the thread that reads it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

LOG = logging.getLogger("lehr.monitoring")
FRESH_SECONDS = 0.25  # the longest that anybody waits for a reading: a driver may hang


class Part(Protocol):
    """Counters of one kind. `read` returns joules by device since the part was made, never fewer than before, and may block or
    raise; `gaps` and `events` are as in lehr.runtime.energy.Drawn."""

    source: str
    seconds: float  # between two readings

    @property
    def gaps(self) -> tuple[str, ...]: ...

    @property
    def events(self) -> tuple[str, ...]: ...

    def read(self) -> Mapping[str, float]: ...


class Poller:
    """Reads a part in a thread of its own, so that a driver that hangs holds up neither training nor another part.

    The thread takes at most two thousandths of a core, but for its own start and its newest reading: after one that took long
    it rests longer than the part asks for. Readings that `fresh` asks for come beside.
    """

    SHARE = 2e-3

    def __init__(self, part: Part, clock: Callable[[], float] = time.thread_time) -> None:
        """`clock` is the processor time of the calling thread."""
        self.part, self._clock = part, clock
        self._changed, self._asked = threading.Condition(), threading.Event()
        self._latest: Mapping[str, float] = {}
        self._readings, self._wanted, self._failure = 0, 0, ""
        self._reading = self._closed = False
        threading.Thread(target=self._work, name=f"energy-{part.source}", daemon=True).start()

    @property
    def gaps(self) -> tuple[str, ...]:
        """The part's, and whether it could not be read."""
        return (*self.part.gaps, *((self._failure,) if self._failure else ()))

    def latest(self) -> Mapping[str, float]:
        """The newest reading, at once."""
        return self._latest

    def fresh(self, wait: float = FRESH_SECONDS) -> Mapping[str, float]:
        """A reading that began after this call; the newest one if there is none within `wait` seconds."""
        with self._changed:
            # One that is under way may have begun before.
            self._wanted = wanted = self._readings + (2 if self._reading else 1)
            self._asked.set()
            self._changed.wait_for(lambda: self._readings >= wanted, timeout=wait)
        return self._latest

    def close(self) -> None:
        """The thread ends once it has read what it is reading."""
        self._closed = True
        self._asked.set()

    def _work(self) -> None:
        before = self._clock()
        while not self._closed:
            self._reading = True
            self._read()
            # In this order: who asks in between waits for one reading more than needed, never for one that began before.
            self._readings += 1
            self._reading = False
            if self._asked.is_set():  # otherwise nobody waits, and the lock would take a tenth of a sample's time
                self._answer()
            now = self._clock()
            pause, before = max(self.part.seconds, (now - before) / self.SHARE), now
            if pause < FRESH_SECONDS:
                time.sleep(pause)  # half of what waiting for the event takes; who asks gets the next reading all the same
            else:
                self._asked.wait(pause)

    def _answer(self) -> None:
        """Wake those who wait for a reading."""
        with self._changed:
            if self._readings >= self._wanted:
                self._asked.clear()
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            self._latest, self._failure = self.part.read(), ""
        except Exception as error:  # noqa: BLE001 - NVML's exceptions cannot be named without its package; a meter never fails a run
            LOG.debug("%s energy: %s", self.part.source, error)
            self._failure = f"{self.part.source} cannot be read ({type(error).__name__}: {error})"
