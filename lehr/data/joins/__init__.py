"""Joins over all documents of a corpus, on an engine that someone else wrote.

A document is a number (int64, in order of reading); those of earlier corpora have negative ones and are never a result.
The two joins are all that deduplication needs of an engine. What they return does not depend on the engine, on the
number of its threads, or on the order in which batches arrive: every result is sorted, and every choice falls by
priority and number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]
I64: TypeAlias = NDArray[np.int64]
F64: TypeAlias = NDArray[np.float64]
F32: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Keyed:
    """A batch of rows: keys [N, 1 or 2 words] (hashes: any number is as likely as any other), numbers [N], priorities [N] (the
    largest comes first; equals by number)."""

    keys: U64
    numbers: I64
    priorities: F64


@dataclass(frozen=True)
class Pairs:
    """Pairs of documents, [N] each: the one that comes first by priority and number, the other one, and their similarity."""

    first: I64
    other: I64
    first_priority: F64
    other_priority: F64
    similarity: F32  # 0: below the threshold, or not compared yet

    def __len__(self) -> int:
        return len(self.first)


class Buckets(Protocol):
    """Rows with equal keys are a bucket. Buckets with fewer than two rows, or with earlier corpora's only, are left out."""

    def beyond(self, places: int) -> Iterator[I64]:
        """The different numbers that in some bucket stand behind the first `places`, ascending."""
        ...

    def pairs(self, places: int) -> Iterator[Pairs]:
        """The different pairs of one of the first `places` of a bucket with one behind it, without those that were judged;
        sorted by first and other, in batches."""
        ...

    def judge(self, pairs: Pairs) -> None:
        """Remember what a comparison said."""
        ...

    def similar(self) -> Iterator[Pairs]:
        """The judged pairs with a similarity above 0, sorted by the place of the other one (priority, number), then the
        first's."""
        ...

    def remove(self, numbers: Iterable[I64]) -> None:
        """Take these documents out of all buckets and pairs."""
        ...


class Joins(Protocol):
    """The engine."""

    def copies(self, rows: Iterable[Keyed]) -> Iterator[tuple[I64, I64]]:
        """For every number (not of an earlier corpus) that is not the lowest with its key: it and the lowest, sorted, in
        batches. Priorities are not looked at."""
        ...

    def buckets(self, rows: Iterable[Keyed]) -> Buckets:
        """The buckets of rows, whose keys have one word. One at a time: the next call forgets the last one's."""
        ...
