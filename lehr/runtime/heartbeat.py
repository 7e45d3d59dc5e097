"""Heartbeats of a training loop, for a watchdog outside it. They go nowhere until a listener is set; each costs one call.

Every rank sends them in its own process: at the start of each step, and before anything that may take long.
"""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[bool, int], None]
_listener: Listener | None = None
_paused = False


def listen(listener: Listener | None) -> None:
    """Call `listener(stepping, step)` at every heartbeat from now on, on the loop's own thread; None ends it."""
    global _listener
    _listener = listener


def paused() -> bool:
    """Whether this process's last heartbeat said that the next one may come late."""
    return _paused


def stepping(step: int) -> None:
    """A step begins: the next heartbeat must come within a step's time, otherwise something hangs."""
    global _paused
    _paused = False
    if _listener is not None:
        _listener(True, step)


def pausing(step: int) -> None:
    """An evaluation, a checkpoint, or the end: the next heartbeat may come late."""
    global _paused
    _paused = True
    if _listener is not None:
        _listener(False, step)
