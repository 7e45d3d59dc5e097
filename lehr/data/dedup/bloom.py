"""A Bloom filter: remembers keys in a few bits each, and takes a new key for a known one at a rate that is chosen
beforehand."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lehr.data.dedup.shingles import mixed
from lehr.data.joins import U64


class Bloom:
    """For `expected` different keys (64-bit hashes) with at most `false_positives` of new keys taken for known ones.

    Of m bits each key sets k; m = -n ln p / (ln 2)^2 and k = m / n ln 2 are the least memory for n keys at rate p. The
    k bits are h1 + i * h2 of two hashes of the key (Kirsch and Mitzenmacher 2006: as good as k hashes)."""

    def __init__(self, expected: int, false_positives: float) -> None:
        self.bits = max(64, math.ceil(-expected * math.log(false_positives) / math.log(2) ** 2))
        self.hashes = max(1, round(self.bits / expected * math.log(2)))
        self._bytes = np.zeros(-(-self.bits // 8), np.uint8)

    @classmethod
    def of(cls, content: NDArray[np.uint8], bits: int, hashes: int) -> Bloom:
        """The filter that had this `content`."""
        found = cls(1, 0.5)
        found.bits, found.hashes, found._bytes = bits, hashes, content
        return found

    @property
    def content(self) -> NDArray[np.uint8]:
        """Its bits, eight to a byte."""
        return self._bytes

    def add(self, keys: U64) -> NDArray[np.bool_]:
        """Remember keys; says of each [N] whether it was there before, or earlier among these."""
        places = self._places(keys)
        _, where = np.unique(keys, return_index=True)
        first = np.zeros(len(keys), bool)
        first[where] = True
        known = self._known(places)
        # A key's bits may be set by those before it in this call: one at a time for these few, in order.
        fresh = np.flatnonzero(first & ~known)
        byte, bit = places >> np.uint64(3), np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        for row in fresh.tolist():
            known[row] = bool(((self._bytes[byte[row]] & bit[row]) != 0).all())
            np.bitwise_or.at(self._bytes, byte[row], bit[row])
        return known | ~first

    def put(self, keys: U64) -> None:
        """Remember keys, without a word about those that were there before."""
        places = self._places(keys).ravel()
        np.bitwise_or.at(
            self._bytes, places >> np.uint64(3), np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        )

    def known(self, keys: U64) -> NDArray[np.bool_]:
        """Whether each key is there, or taken for one that is; remembers nothing."""
        return self._known(self._places(keys))

    def _known(self, places: U64) -> NDArray[np.bool_]:
        bits = (self._bytes[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8)) & np.uint8(1)
        found: NDArray[np.bool_] = bits.astype(bool).all(axis=1)
        return found

    def _places(self, keys: U64) -> U64:
        """[N, hashes]"""
        step = mixed(keys ^ np.uint64(0x5851F42D4C957F2D)) | np.uint64(1)
        return (keys[:, None] + np.arange(self.hashes, dtype=np.uint64) * step[:, None]) % np.uint64(self.bits)
