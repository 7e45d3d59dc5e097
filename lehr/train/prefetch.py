"""The next step's batch, prepared and copied to the device while the current step computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calling it with `step` returns `make(step)`, usually started on a thread during the previous call. Steps may be left out;
    a batch that was prepared in vain is dropped. Raises what `make` raises, at the step it belongs to."""

    def __init__(self, make: Callable[[int], T], steps: int) -> None:
        self.make, self.steps = make, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        made = self._next[1].result() if self._next and self._next[0] == step else self.make(step)
        self._next = (step + 1, self._pool.submit(self.make, step + 1)) if step + 1 < self.steps else None
        return made


def fetcher(make: Callable[[int], Fetched], steps: int, device: torch.device) -> Callable[[int], Fetched]:
    """`make` itself on a CPU, where a thread would compete with the step for the cores; on CUDA prefetched through pinned
    memory."""
    if device.type != "cuda":
        return make
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return Prefetcher(lambda step: make(step).to(device, stream), steps)


@dataclass(frozen=True)
class Fetched:
    """One rank's rows of a step as tensors. `masked` instances have no loss; `whole`: every position has a label."""

    tokens_BT: Tensor
    labels_BT: Tensor
    masked: int
    whole: bool
    copied: torch.cuda.Event | None = None

    def to(self, device: torch.device, stream: torch.cuda.Stream) -> Fetched:
        """An asynchronous copy on a CUDA device through pinned memory, on `stream`; the host does not wait for it."""
        with torch.cuda.stream(stream):
            tokens, labels = (t.pin_memory().to(device, non_blocking=True) for t in (self.tokens_BT, self.labels_BT))
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        return Fetched(tokens, labels, self.masked, self.whole, copied)

    def use(self) -> Fetched:
        """Make the current stream wait for the copy. The host does not wait."""
        if self.copied is not None:
            current = torch.cuda.current_stream(self.tokens_BT.device)
            current.wait_event(self.copied)
            for tensor in (self.tokens_BT, self.labels_BT):
                # Allocated on the copy stream: without this the allocator could reuse the memory while a step still reads it.
                tensor.record_stream(current)
        return self
