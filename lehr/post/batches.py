"""Which examples a step has: a fixed number of them, or as many as fill a number of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np

from lehr.runtime import seeds


def rows_of_step(step: int, batch_size: int, size: int, seed: int) -> np.ndarray:
    """The indices, of `size` examples, in the global batch of `step`: a keyed permutation for each epoch, shape
    (batch_size,)."""
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    epoch, within = position // size, position % size
    out = np.empty(batch_size, dtype=np.int64)
    for e in np.unique(epoch):
        chosen = epoch == e
        out[chosen] = seeds.permute(within[chosen], size, seeds.derive(seed, "epoch", int(e)))
    return out


class Batches(Protocol):
    """The examples of every step, the same on every rank."""

    def rows(self, step: int) -> np.ndarray:
        """The indices of the examples in the global batch of `step`."""
        ...

    def steps(self, epochs: float) -> int:
        """The number of steps in so many passes over all examples."""
        ...


class OfExamples:
    """`batch_size` of `size` examples in each step."""

    def __init__(self, batch_size: int, size: int, seed: int) -> None:
        self._batch_size, self._size, self._seed = batch_size, size, seed

    def rows(self, step: int) -> np.ndarray:
        return rows_of_step(step, self._batch_size, self._size, self._seed)

    def steps(self, epochs: float) -> int:
        return math.ceil(self._size * epochs / self._batch_size)


class OfTokens:
    """Examples of these `lengths` until their tokens would be more than `tokens`; at least one. No step crosses an epoch's
    end, so an epoch's last one may be small."""

    def __init__(self, tokens: int, lengths: np.ndarray, seed: int) -> None:
        self._tokens, self._lengths, self._seed = tokens, lengths, seed
        self._starts: Callable[[int], np.ndarray] = lru_cache(maxsize=2)(self._cut)
        self._before = [0]  # steps before each epoch

    def rows(self, step: int) -> np.ndarray:
        while step >= self._before[-1]:
            self._before.append(self._before[-1] + len(self._starts(len(self._before) - 1)) - 1)
        epoch = int(np.searchsorted(self._before, step, side="right")) - 1
        starts, place = self._starts(epoch), step - self._before[epoch]
        return self._order(epoch, np.arange(starts[place], starts[place + 1]))

    def steps(self, epochs: float) -> int:
        whole, part = int(epochs), epochs - int(epochs)
        steps = sum(len(self._starts(epoch)) - 1 for epoch in range(whole))
        return max(1, steps + (round(part * (len(self._starts(whole)) - 1)) if part else 0))

    def _order(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        return seeds.permute(positions, len(self._lengths), seeds.derive(self._seed, "epoch", epoch))

    def _cut(self, epoch: int) -> np.ndarray:
        """The positions at which an epoch's steps begin, and its end."""
        ends = np.cumsum(self._lengths[self._order(epoch, np.arange(len(self._lengths)))])
        starts, start, before = [0], 0, 0
        while start < len(ends):
            start = max(start + 1, int(np.searchsorted(ends, before + self._tokens, side="right")))
            before = int(ends[start - 1])
            starts.append(start)
        return np.array(starts, dtype=np.int64)
