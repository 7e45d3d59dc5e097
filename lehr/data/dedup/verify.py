"""The true similarity of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from lehr.config.deduplication import NearDuplicates
from lehr.data.dedup.files import Signatures
from lehr.data.dedup.minhash import fewest_equal
from lehr.data.dedup.shingles import jaccard, shingle_sets
from lehr.data.joins import F32, I64, U64, Pairs

_SHINGLES = 1 << 18  # of texts that are in memory at once, beside the two of one pair
_CHECKED = 1 << 12  # pairs whose sketches are compared at once


class Texts(Protocol):
    """Fetches the texts of documents by their numbers, which are ascending."""

    def __call__(self, numbers: Sequence[int]) -> Sequence[str]: ...


@dataclass(frozen=True)
class Verifier:
    """Compares pairs of documents; a pure function, for any process.

    Two documents whose sketches differ in too many places are not compared: one pair in a million at the threshold is
    lost by that. All others are, by the sets of shingles of their texts (of earlier corpora: the sets that were kept)."""

    fuzzy: NearDuplicates
    own: Signatures
    earlier: Signatures
    texts: Texts

    def __call__(self, pairs: Pairs) -> Pairs:
        """With the Jaccard similarity of each pair that has at least the threshold, and 0 for the others."""
        similarity = np.zeros(len(pairs), np.float32)
        for start in range(0, len(pairs), _CHECKED):
            part = slice(start, start + _CHECKED)
            self._judge(pairs.first[part], pairs.other[part], similarity[part])
        return replace(pairs, similarity=similarity)

    def _judge(self, first: I64, other: I64, similarity: F32) -> None:
        numbers, where = np.unique(np.concatenate([first, other]), return_inverse=True)
        records = self._records(numbers)
        a, b = where[: len(first)], where[len(first) :]
        sketch = records["sketch"]
        fewest = fewest_equal(self.fuzzy.threshold, self.fuzzy.permutations)
        near = np.flatnonzero((sketch[a] == sketch[b]).sum(1) >= fewest)
        for group in _groups(near, a, b, records["shingles"].astype(np.int64)):
            needed = np.unique(np.concatenate([numbers[a[group]], numbers[b[group]]]))
            sets = dict(zip(needed.tolist(), self._sets(needed), strict=True))
            for pair in group.tolist():
                value = jaccard(sets[int(first[pair])], sets[int(other[pair])])
                similarity[pair] = value if value >= self.fuzzy.threshold else 0

    def _records(self, numbers: I64) -> np.ndarray:
        split = int(np.searchsorted(numbers, 0))
        return np.concatenate([self.earlier.records(numbers[:split]), self.own.records(numbers[split:])])

    def _sets(self, numbers: I64) -> list[U64]:
        split = int(np.searchsorted(numbers, 0))
        own = numbers[split:].tolist()
        return self.earlier.sets(numbers[:split]) + (shingle_sets(self.texts(own), self.fuzzy.shingle_words) if own else [])


def _groups(pairs: I64, a: I64, b: I64, sizes: I64) -> Iterator[I64]:
    """The pairs cut into groups whose documents have no more than `_SHINGLES` shingles together, or that are a single
    pair."""
    group, inside, total = list[int](), set[int](), 0
    for pair in pairs.tolist():
        new = {int(a[pair]), int(b[pair])} - inside
        more = sum(int(sizes[one]) for one in new)
        if group and total + more > _SHINGLES:
            yield np.array(group, np.int64)
            group, inside = [], set()
            new = {int(a[pair]), int(b[pair])}
            total, more = 0, sum(int(sizes[one]) for one in new)
        group.append(pair)
        inside |= new
        total += more
    if group:
        yield np.array(group, np.int64)
