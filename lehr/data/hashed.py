"""Hashes of words and word n-grams, as fastText computes them: equal models give equal scores.

Letters: W words of a text, G n-grams of it.
"""

from __future__ import annotations

import re

import numpy as np

_MOST = 1 << 20  # words remembered, of at most _LONGEST characters each: bounds the memory
_LONGEST = 64
_NEXT = np.uint64(116049371)  # fastText's multiplier from one word of an n-gram to the next
# Where str.split and fastText differ: it splits at NUL, and at no white space beyond ASCII.
_OTHER_BLANKS = re.compile("[\0\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_WORDS = re.compile("[^ \n\r\t\v\f\0]+")
_DIGIT, _PLAIN = re.compile(r"\d"), re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """The words of a text, between blanks as fastText knows them."""
    return text.split() if _OTHER_BLANKS.search(text) is None else _WORDS.findall(text)


def plain_words(text: str) -> list[str]:
    """The words in lower case, digits as 0, each punctuation mark a word of its own."""
    return _PLAIN.findall(_DIGIT.sub("0", text.lower()))


class WordHashes(dict[str, int]):
    """32-bit FNV-1a of a word's UTF-8, each byte and the result with a sign as in fastText's code. Words are remembered."""

    def of(self, words: list[str]) -> np.ndarray:
        """int64 (W)."""
        if len(self) > _MOST:
            self.clear()
        return np.fromiter(map(self.__getitem__, words), np.int64, len(words))

    def __missing__(self, word: str) -> int:
        hashed = 2166136261
        for byte in word.encode("utf-8", "surrogatepass"):
            hashed = ((hashed ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
        signed = hashed - (1 << 32) if hashed >> 31 else hashed
        if len(word) <= _LONGEST:
            self[word] = signed
        return signed


def ngrams(hashes_W: np.ndarray, orders: range, buckets: int) -> np.ndarray:
    """The buckets of all n-grams of the given orders, int64 (G), order by order; `hashes_W` as `WordHashes.of` gives them."""
    unsigned_W = hashes_W.view(np.uint64)
    current, out = unsigned_W, list[np.ndarray]()
    with np.errstate(over="ignore"):
        for order in range(1, orders.stop):
            if order > 1:
                current = current[:-1] * _NEXT + unsigned_W[order - 1 :]
            if order >= orders.start:
                out.append((current % np.uint64(buckets)).astype(np.int64))
            if len(current) <= 1:
                break
    return np.concatenate(out) if out else np.zeros(0, np.int64)
