"""Metrics that no step waits for: the extras of several steps are summed over ranks at once, on a thread of its own and over a
gloo group of its own, because NCCL is not thread-safe (OLMo 2 section 6.4). Until then the numbers stay on their device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lehr.distributed.ranks import Ranks

Row = TypeVar("Row")
Pair = tuple[float | Tensor, float | Tensor]  # sum and count


def mean(total: float, count: float) -> float:
    return total / count if count else float("nan")


def stacked(values: list[float | Tensor]) -> Tensor:
    """Numbers of host and device as one float64 vector, on the device if any of them is there, without synchronising."""
    device = next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))
    if all(not isinstance(v, Tensor) for v in values):
        return torch.tensor(values, dtype=torch.float64)
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).to(device, non_blocking=True) for v in values])


@dataclass
class _Sending(Generic[Row]):
    rows: list[Row]
    host: Tensor  # (steps, extras, 2)
    copied: torch.cuda.Event | None


class DeferredMetrics(Generic[Row]):
    """`add` one row for each step; `ready` and `drain` return rows in order, with the means of their extras over all ranks.

    Every rank calls `add` and `drain` at the same steps. Both raise the thread's error, such as a peer that is gone.
    """

    def __init__(self, names: tuple[str, ...], every_steps: int, ranks: Ranks) -> None:
        self.names, self.every_steps = names, every_steps
        # Made here, on every rank and in the same order, as `new_group` is itself a collective.
        self._group = dist.new_group(backend="gloo") if ranks.world > 1 else None
        self._rows: list[Row] = []
        self._values: list[Tensor] = []
        self._waiting: queue.Queue[_Sending[Row] | None] = queue.Queue()
        self._done: queue.SimpleQueue[tuple[list[Row], Tensor]] = queue.SimpleQueue()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        self._thread.start()

    def add(self, row: Row, extra: Mapping[str, Pair]) -> None:
        """Take `row`; `extra` are its (sum, count) pairs."""
        pairs = [extra.get(name, (0.0, 0.0)) for name in self.names]
        self._rows.append(row)
        self._values.append(stacked([x for pair in pairs for x in pair]))
        if len(self._rows) >= self.every_steps:
            self._send()

    def _send(self) -> None:
        self._raise()
        if not self._rows:
            return
        together = torch.stack(self._values).view(len(self._rows), len(self.names), 2)
        copied = None
        if together.is_cuda:
            # The copy is asynchronous; the thread waits for this event, so that the training thread need not.
            together, copied = together.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._waiting.put(_Sending(self._rows, together, copied))
        self._rows, self._values = [], []

    def ready(self) -> list[tuple[Row, dict[str, float]]]:
        """The rows whose sums have arrived since the last call."""
        out = []
        while not self._done.empty():
            rows, sums = self._done.get()
            for row, pairs in zip(rows, sums.tolist(), strict=True):
                out.append((row, {name: mean(*pair) for name, pair in zip(self.names, pairs, strict=True)}))
        return out

    def drain(self) -> list[tuple[Row, dict[str, float]]]:
        """All rows not yet returned; waits for the thread."""
        self._send()
        self._waiting.join()
        self._raise()
        return self.ready()

    def close(self) -> None:
        """End the thread. Rows that were not drained are dropped."""
        self._waiting.put(None)

    def _raise(self) -> None:
        if self._failure:
            raise self._failure[0]

    def _work(self) -> None:
        while (sending := self._waiting.get()) is not None:
            try:
                if sending.copied is not None:
                    sending.copied.synchronize()
                if self._group is not None:
                    dist.all_reduce(sending.host, group=self._group)
                self._done.put((sending.rows, sending.host))
            except BaseException as error:  # noqa: BLE001 (kept, and raised on the training thread by `_raise`)
                self._failure.append(error)
            finally:
                self._waiting.task_done()
