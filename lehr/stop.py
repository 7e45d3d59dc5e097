"""SIGTERM: the machine is wanted back, and after a grace period taken. Work that can save itself does so first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lehr.errors import Preempted


class Terminated(BaseException):
    """SIGTERM met work that has nothing to save. No Exception: whoever handles errors must not take it for one."""


class _Notice:
    asked = False
    deferred = False  # who is at work asks, and will end in order
    listeners = 0


_AGAIN = "give the same command again to go on"


def asked() -> bool:
    """Whether SIGTERM has come."""
    return _Notice.asked


def defer() -> None:
    """From now to the end of the innermost `listening` SIGTERM interrupts nothing: the caller asks for it instead."""
    _Notice.deferred = True


@contextmanager
def interruptible(really: bool = True) -> Iterator[None]:
    """While inside, SIGTERM raises Terminated at once in spite of `defer`: for what can be done again and may last long."""
    before, _Notice.deferred = _Notice.deferred, _Notice.deferred and not really
    try:
        if _Notice.asked and not _Notice.deferred:
            raise Terminated
        yield
    finally:
        _Notice.deferred = before


@contextmanager
def listening() -> Iterator[None]:
    """Hear SIGTERM while inside, in the main thread. Raises Preempted, at once or, after `defer`, at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, outer = signal.signal(signal.SIGTERM, _hear), _Notice.deferred
    _Notice.deferred, _Notice.listeners = False, _Notice.listeners + 1
    try:
        yield
        if _Notice.asked:
            raise Preempted(f"stopped by SIGTERM; what was done is kept: {_AGAIN}")
    except Terminated:
        raise Preempted(f"stopped by SIGTERM; {_AGAIN}") from None
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        _Notice.deferred, _Notice.listeners = outer, _Notice.listeners - 1
        if not _Notice.listeners:
            _Notice.asked = False


def _hear(number: int, frame: FrameType | None) -> None:
    _Notice.asked = True
    if not _Notice.deferred:
        raise Terminated


def preempted(stage: str, step: int, steps: int) -> Preempted:
    """The error that training ends with once its state is saved."""
    return Preempted(f"{stage} was stopped by SIGTERM after step {step} of {steps}, which is saved: {_AGAIN}")
