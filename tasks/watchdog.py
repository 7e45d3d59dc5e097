"""Ends a hanging training process within a minute; the collectives' own time-out takes ten to thirty minutes.

A step may take `limit_seconds`, or ten times the longest step so far if that is more. The first two steps of a process are not
timed, as they compile and warm up, and neither is anything between steps. Time is counted in ticks of this thread, so that a
process that was stopped (SIGSTOP), or a machine that was suspended, does not count as hanging.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable

from lehr.infra.pod.pod_template import EXIT_HANG
from lehr.runtime import heartbeat
from lehr.runtime.environment import amount
from lehr.runtime.rank_environment import hosts
from lehr.tasks.termination import terminate, termination_details

FACTOR = 10.0
UNTIMED_STEPS = 2
SPREAD_SECONDS = 5.0  # between the ranks' alarms: a tick or two, and ten times the spread of their longest steps


class Watchdog:
    """Give `beat` to lehr.runtime.heartbeat.listen. `hangs(step, seconds)` is called once, from the watchdog's thread."""

    def __init__(self, hangs: Callable[[int, float], None], limit_seconds: float = 60.0, tick_seconds: float = 1.0) -> None:
        self._hangs, self._limit, self._tick = hangs, limit_seconds, tick_seconds
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._stepping, self._step, self._seen, self._silent = False, 0, 0, 0.0
        self._began, self._longest = 0.0, 0.0
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def beat(self, stepping: bool, step: int) -> None:
        now = time.monotonic()
        with self._lock:
            if self._stepping and self._seen > UNTIMED_STEPS:
                self._longest = max(self._longest, now - self._began)
            self._seen += stepping
            self._stepping, self._step, self._silent, self._began = stepping, step, 0.0, now

    def _run(self) -> None:
        while not self._stop.wait(self._tick):
            with self._lock:
                timed = self._stepping and self._seen > UNTIMED_STEPS
                self._silent += self._tick if timed else 0.0
                late = timed and self._silent > max(self._limit, FACTOR * self._longest)
                step, silent = self._step, self._silent
            if late:
                self._hangs(step, silent)
                return


_watching: Watchdog | None = None


def watch() -> None:
    """From now on end this process if its training hangs, so that it restarts from its checkpoint. Called once per process.
    Every rank has its own watchdog: when one rank hangs all others wait for it, and each pod reports a hang of its own node."""
    global _watching
    if _watching is not None:
        return

    def hangs(step: int, seconds: float) -> None:
        faulthandler.dump_traceback()  # the stacks of all threads
        if hosts() > 1:  # the first process to end looks like a dead rank to the others: let their watchdogs fire before it
            time.sleep(SPREAD_SECONDS)
        terminate(EXIT_HANG, f"no step for {seconds:.0f} s", {**termination_details(), "step": step})

    limit = amount("LEHR_WATCHDOG_SECONDS", 60.0)
    _watching = Watchdog(hangs, limit, min(1.0, limit / 4))
    heartbeat.listen(_watching.beat)
    _watching.start()
