"""Where the time of a step goes: forward, backward, sampling, communication, optimiser.

Time belongs to the innermost part that is open; the parts of a step add up to what was measured of it. On the CPU the clock is
the host's. On CUDA it is the device's: the host only queues kernels, and their times are read one step later, when they are
known without waiting. Where ranks exchange tensors inside the model (FSDP, tensor and pipeline parallelism) that time is in
`forward` and `backward`; under pipeline parallelism both are `forward`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

FORWARD, BACKWARD, SAMPLING, DATA = "forward", "backward", "sampling", "data"
COMMUNICATION, OPTIMIZER, OTHER = "communication", "optimizer", "other"
NAMES = (FORWARD, BACKWARD, SAMPLING, COMMUNICATION, OPTIMIZER)  # that are logged, as NAME_seconds
_KEPT = 4  # steps whose device times are waited for

Mark = tuple[str, Any]  # from then on time belongs to this part; a time in seconds, or a CUDA event


class StepTimes:
    """The marks of the running step, and of those whose events are not over yet."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open, self._marks = [OTHER], list[Mark]()
        self._ended: deque[list[Mark]] = deque(maxlen=_KEPT)

    def begin(self) -> None:
        """A step begins."""
        self._open, self._marks = [OTHER], []
        self._mark()

    def end(self) -> None:
        """The step ends. One that failed before is left out."""
        self._mark()
        self._ended.append(self._marks)
        self._marks = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time inside belongs to `name`."""
        self._open.append(name)
        self._mark()
        try:
            yield
        finally:
            self._open.pop()
            self._mark()

    def _mark(self) -> None:
        if not self._cuda:
            self._marks.append((self._open[-1], time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append((self._open[-1], event))

    def take(self) -> dict[str, float]:
        """Seconds by part of the oldest step that has not been taken; empty if the device has not finished one."""
        if not self._ended or (self._cuda and not self._ended[0][-1][1].query()):
            return {}
        found: dict[str, float] = {}
        marks = self._ended.popleft()
        for (name, start), (_, stop) in pairwise(marks):
            seconds = start.elapsed_time(stop) / 1e3 if self._cuda else stop - start
            found[name] = found.get(name, 0.0) + seconds
        return found


class _Here(threading.local):
    """What is measured on this thread: two attempts at one stage may train in one process."""

    current: StepTimes | None = None


_here = _Here()


def measure(device: torch.device) -> StepTimes:
    """The times of this thread's training from now on."""
    _here.current = StepTimes(device)
    return _here.current


@contextmanager
def part(name: str) -> Iterator[None]:
    """Time inside belongs to `name`, if somebody measures."""
    if _here.current is None:
        yield
        return
    with _here.current.part(name):
        yield


def backpropagate(loss: Tensor) -> None:
    """`loss.backward()`, timed."""
    with part(BACKWARD):
        loss.backward()  # type: ignore[no-untyped-call]
