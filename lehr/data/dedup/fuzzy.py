"""Near-duplicates of a whole corpus.

The rule: documents are looked at in order (the largest priority first, equals in order of reading). One is dropped if
it is similar, by its true Jaccard similarity, to one that stays and with which it shares a bucket; otherwise it stays.
So everything that is dropped was compared with what stays in its place; a chain of documents, each like the next, does
not pull in one that is like none that stays, as connected components would.

The rule looks sequential; it is carried out in rounds over all buckets at once. In a round, the first `places` of every
bucket are compared with all behind them. A document that is never behind those places has then been compared with all
before it, so it can be decided as soon as those that it is similar to are; it stays and leaves the buckets, and what is
similar to it is dropped, and leaves them too. A bucket of n copies is done after n - 1 comparisons. One of n documents
that share boilerplate but are not similar needs all n (n - 1) / 2, since each pair might be: these are comparisons of
sketches (bytes), and `places` grows, so the rounds are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lehr.data.joins import I64, Buckets, Pairs

Apply = Callable[[Callable[[Pairs], Pairs], Iterable[Pairs]], Iterable[Pairs]]
Found = tuple[int, int, float]  # the dropped, the one that stays, their similarity
_PLACES = 64  # at most
_BATCH = 1 << 16
_PRESENT, _BEHIND, _SIMILAR, _KEPT, _DROPPED = 1, 2, 4, 8, 16


def near_duplicates(
    buckets: Buckets, verify: Callable[[Pairs], Pairs], earlier: int, own: int, apply: Apply = map
) -> Iterator[Found]:
    """What is dropped of the documents 0 ... own - 1, beside `earlier` ones of other corpora, in the order of decisions.

    `apply` is `map`, or one like it that works in several processes and keeps the order. One byte a document is held in
    memory."""
    state = _State(np.zeros(earlier + own, np.uint8), earlier)
    state.flags[:earlier] = _KEPT
    places = 1
    while state.mark(buckets.beyond(0), _PRESENT):
        for judged in apply(verify, buckets.pairs(places)):
            buckets.judge(judged)
        state.mark(buckets.beyond(places), _BEHIND)
        yield from state.decide(buckets)
        buckets.remove(state.gone())
        state.flags[:] &= _KEPT | _DROPPED
        places = min(2 * places, _PLACES)


@dataclass(frozen=True)
class _State:
    """What is known of each document; document n is in place `n + earlier`."""

    flags: NDArray[np.uint8]
    earlier: int

    def mark(self, numbers: Iterable[I64], flag: int) -> bool:
        """Set a flag; says whether there was any document."""
        found = False
        for batch in numbers:
            self.flags[batch + self.earlier] |= flag
            found = found or len(batch) > 0
        return found

    def decide(self, buckets: Buckets) -> Iterator[Found]:
        """Decide what this round's comparisons allow, and say what is dropped."""
        flags, earlier = self.flags, self.earlier
        self.mark((pairs.other for pairs in buckets.similar()), _SIMILAR)
        for start in range(0, len(flags), _BATCH):  # in batches, here and below, for the sake of memory
            part = flags[start : start + _BATCH]
            part[(part & (_PRESENT | _BEHIND | _SIMILAR)) == _PRESENT] |= _KEPT
        for other, firsts in _by_other(buckets.similar()):  # in order, so that those before it are decided, if they can be
            states = [int(flags[first + earlier]) for first, _ in firsts]
            keeper = next((pair for pair, state in zip(firsts, states, strict=True) if state & _KEPT), None)
            if keeper:
                flags[other + earlier] |= _DROPPED
                yield other, *keeper
            elif not flags[other + earlier] & _BEHIND and all(state & _DROPPED for state in states):
                flags[other + earlier] |= _KEPT

    def gone(self) -> Iterator[I64]:
        """What leaves the buckets: the dropped, and those that stay and have been compared with all others there."""
        for start in range(0, len(self.flags), _BATCH):
            part = self.flags[start : start + _BATCH]
            leave = (part & _DROPPED > 0) | ((part & (_KEPT | _BEHIND)) == _KEPT)
            found = np.flatnonzero((part & _PRESENT > 0) & leave)
            if len(found):
                yield found + (start - self.earlier)


def _by_other(similar: Iterable[Pairs]) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Each document with those before it to which it is similar."""
    now, firsts = -1, list[tuple[int, float]]()
    for pairs in similar:
        for other, first, value in zip(pairs.other.tolist(), pairs.first.tolist(), pairs.similarity.tolist(), strict=True):
            if other != now:
                if firsts:
                    yield now, firsts
                now, firsts = other, []
            firsts.append((first, value))
    if firsts:
        yield now, firsts
