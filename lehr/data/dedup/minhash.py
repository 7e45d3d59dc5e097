"""MinHash: a short signature of a set of shingles; the share of equal places estimates the Jaccard similarity of two
sets.

A permutation is x -> a * x + b modulo 2^32 with odd a: a bijection that NumPy computes by wrapping around, without
the division that arithmetic modulo a prime takes. Alone, such maps are not min-wise independent (the last bit of x only
ever meets the last bit of b); x is therefore the upper half of a mixed 64-bit hash, so that the set itself is random to
the maps. The tests hold the estimate's mean and its spread against the binomial distribution of independent
permutations.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lehr.data.dedup.shingles import mixed, shingles
from lehr.data.joins import I64, U64

U32: TypeAlias = NDArray[np.uint32]
U8: TypeAlias = NDArray[np.uint8]
_BLOCK = 2048  # shingles whose 128 images stay in the processor's cache
_EMPTY = np.uint32(0xFFFFFFFF)


def signatures(texts: Sequence[str], k: int, permutations: int) -> tuple[U32, I64]:
    """Signatures [D, permutations] of the texts, and the number of shingles [D] of each, repeated ones included."""
    a, b = _coefficients(permutations)
    found = np.full((len(texts), permutations), _EMPTY, np.uint32)
    sizes = np.zeros(len(texts), np.int64)
    for start, hashes, counts in shingles(texts, k):
        sizes[start : start + len(counts)] += counts
        _minima(found[start : start + len(counts)], (hashes >> np.uint64(32)).astype(np.uint32), counts, a, b)
    return found, sizes


def band_keys(found: U32, bands: int, rows: int) -> U64:
    """A key [D, bands] of each band of `rows` places: equal exactly if all of the places are (but for a chance of 2^-64)."""
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), (len(found), bands)).copy()
    cut = found[:, : bands * rows].reshape(len(found), bands, rows)
    for row in range(rows):
        keys = mixed(keys * np.uint64(0x9E3779B97F4A7C15) + cut[:, :, row])
    return keys


def sketches(found: U32) -> U8:
    """The last byte of every place [D, permutations]: enough to tell far pairs from near ones, in a fourth of the room."""
    return found.astype(np.uint8)


def fewest_equal(threshold: float, permutations: int, missed: float = 1e-6) -> int:
    """How many places of two sketches must be equal for a pair to be compared in truth: of pairs at the threshold, a
    share of at most `missed` has fewer."""
    equal = threshold + (1 - threshold) / 256  # different values have the same last byte once in 256 times
    below = 0.0
    for count in range(permutations + 1):
        below += _binomial(permutations, count, equal)
        if below > missed:
            return count
    return permutations


def candidate_share(similarity: float, bands: int, rows: int) -> float:
    """The S-curve: the share of the pairs of a similarity that agree in at least one band."""
    return float(1 - (1 - similarity**rows) ** bands)


def bands_for(threshold: float, permutations: int, recall: float) -> tuple[int, int]:
    """Bands and rows: the most rows, and so the fewest needless candidates, with which pairs at the threshold are found
    with at least this recall. With one row in each band the recall is the best that so many permutations have."""
    for rows in range(permutations, 1, -1):
        if candidate_share(threshold, permutations // rows, rows) >= recall:
            return permutations // rows, rows
    return permutations, 1


def _minima(found: U32, values: U32, counts: I64, a: U32, b: U32) -> None:
    """Lower `found` [D, P] to the least image of each text's values, which lie one after another."""
    texts = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[texts]
    images = np.empty((len(a), _BLOCK), np.uint32)
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK]
        image = images[:, : len(block)]
        np.multiply(a[:, None], block, out=image)
        np.add(image, b[:, None], out=image)
        low = int(np.searchsorted(starts, begin, "right")) - 1
        high = int(np.searchsorted(starts, begin + len(block), "left"))
        cuts = np.maximum(starts[low:high] - begin, 0)
        rows = texts[low:high]
        found[rows] = np.minimum(found[rows], np.minimum.reduceat(image, cuts, axis=1).T)


def _coefficients(permutations: int) -> tuple[U32, U32]:
    raw = b"".join(hashlib.sha256(b"lehr permutation %d" % i).digest()[:8] for i in range(permutations))
    both = np.frombuffer(raw, "<u4").astype(np.uint32).reshape(permutations, 2)
    return both[:, 0] | np.uint32(1), both[:, 1].copy()


def _binomial(n: int, k: int, p: float) -> float:
    if p >= 1:
        return float(k == n)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    return math.exp(log)
