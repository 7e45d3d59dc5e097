"""SIGTERM means that the machine will be taken away after a grace period; SIGINT that somebody pressed Ctrl-C. Work that can
save its state does so first; a second Ctrl-C ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lehr.runtime.errors import Interrupted, Preempted
from lehr.runtime.rank_environment import launched


class Terminated(BaseException):
    """A signal arrived during work that has nothing to save. A BaseException, so that handlers of errors do not catch it."""


class _Notice:
    asked = 0  # the number of the first signal received
    deferred = False  # the work polls `asked` and ends by itself
    listeners = 0


_AGAIN = "give the same command again to continue"
_TWICE = b"interrupted twice and ended at once; give the same command again to continue from the last save\n"
# One press of Ctrl-C may arrive twice: from the terminal, and from a launcher that forwards the signal.
_ONE_PRESS_SECONDS, _ONE_PRESS_SECONDS_LAUNCHED = 0.5, 5.0


def asked() -> bool:
    """Whether SIGTERM or SIGINT has been received."""
    return bool(_Notice.asked)


def defer() -> None:
    """From now to the end of the innermost `listening` no signal interrupts the work: the caller polls `asked` instead."""
    _Notice.deferred = True


@contextmanager
def interruptible(really: bool = True) -> Iterator[None]:
    """While inside, a signal raises Terminated at once in spite of `defer`: for long work that can be repeated."""
    before, _Notice.deferred = _Notice.deferred, _Notice.deferred and not really
    try:
        if _Notice.asked and not _Notice.deferred:
            raise Terminated
        yield
    finally:
        _Notice.deferred = before


@contextmanager
def listening() -> Iterator[None]:
    """Handle SIGTERM and SIGINT while inside, in the main thread. Raises Preempted or, after SIGINT, Interrupted: at once, or
    at the end after `defer`. If SIGINT is ignored, as in background jobs of a shell script, it stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        heard.append(signal.SIGINT)
    watch = _SecondInterrupt() if not _Notice.listeners else None
    before, outer = {number: signal.signal(number, _hear) for number in heard}, _Notice.deferred
    _Notice.deferred, _Notice.listeners = False, _Notice.listeners + 1
    try:
        yield
        if _Notice.asked:
            raise _ended("; what was done is kept: ")
    except Terminated:
        raise _ended("; ") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if watch is not None:
            watch.close()
        _Notice.deferred, _Notice.listeners = outer, _Notice.listeners - 1
        if not _Notice.listeners:
            _Notice.asked = 0


def _hear(number: int, frame: FrameType | None) -> None:
    first, _Notice.asked = not _Notice.asked, _Notice.asked or number
    if not _Notice.deferred and (first or number == signal.SIGTERM):  # _SecondInterrupt handles a second SIGINT
        raise Terminated


class _SecondInterrupt:
    """Ends this process at the second Ctrl-C, from a thread: Python calls no signal handler while the main thread waits for a
    device or another rank in C code. The interpreter writes signal numbers into a pipe (set_wakeup_fd), which the thread
    reads."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if before != -1:  # an event loop has its own wake-up descriptor
            signal.set_wakeup_fd(before)
        threading.Thread(target=_end_at_the_second, args=(read,), name="interrupts", daemon=True).start()

    def close(self) -> None:
        if (now := signal.set_wakeup_fd(-1)) != self._write and now != -1:
            signal.set_wakeup_fd(now)
        os.close(self._write)


def _end_at_the_second(pipe: int) -> None:
    first, window = 0.0, _ONE_PRESS_SECONDS_LAUNCHED if launched() else _ONE_PRESS_SECONDS
    while came := os.read(pipe, 1):
        if came[0] != signal.SIGINT:
            continue
        first = first or time.monotonic()
        if time.monotonic() - first > window:
            os.write(2, _TWICE)
            # os._exit: the main thread may never return to Python, and atexit handlers could hang in a collective.
            os._exit(Interrupted.exit_code)
    os.close(pipe)


def _ended(rest: str) -> Preempted:
    if _Notice.asked == signal.SIGINT:
        return Interrupted(f"interrupted{rest}{_AGAIN}")
    return Preempted(f"stopped by SIGTERM{rest}{_AGAIN}")


def preempted(stage: str, step: int, steps: int) -> Preempted:
    """The error with which training ends once its state is saved."""
    kind, how = (Interrupted, "interrupted") if _Notice.asked == signal.SIGINT else (Preempted, "stopped by SIGTERM")
    return kind(f"{stage} was {how} after step {step} of {steps}, which is saved: {_AGAIN}")
