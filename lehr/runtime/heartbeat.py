"""A training loop's signs of life, for a watchdog outside it. Nobody listens unless a caller asks to; a beat costs a call.

Every rank beats in its own process: at the start of each step, and when it turns to something that may take long.
"""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[bool, int], None]
_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """`listener(stepping, step)` hears every beat from now on; None ends it. Called from the loop's own thread."""
    global _listener
    _listener = listener


def stepping(step: int) -> None:
    """A step begins: the next beat comes within a step's time, or something hangs."""
    if _listener is not None:
        _listener(True, step)


def pausing(step: int) -> None:
    """Evaluation, a checkpoint, the end: the next beat may take its time."""
    if _listener is not None:
        _listener(False, step)
