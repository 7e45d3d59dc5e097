"""Shingles: every run of k words of a text, as 64-bit hashes, for a whole batch of texts at once.

A word's bytes are read eight at a time, all words side by side, and mixed into 64 bits; a shingle is the sum of its
words' hashes, each times an odd number that belongs to its place, mixed again. Every step is a bijection of what came
before or a sum of well-mixed terms, so two different shingles have the same hash with a chance of about 2^-64. Nothing
depends on the process, as Python's own hash of a string does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from lehr.data.joins import I64, U64

_PIECE = 1 << 17  # characters hashed at a time
_LONG = 64  # bytes; longer words are rare, and hashed one by one
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # of the first n bytes of eight
_BLANK = np.zeros(256, bool)
_BLANK[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True  # what str.split() takes for white space in ASCII
# Scripts that are written without blanks between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_NO_BLANKS}]")
_SPECIAL = re.compile(f"[{_NO_BLANKS}\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


def normalised(text: str) -> str:
    """Lower case, one blank between words."""
    return " ".join(text.lower().split())


def words(text: str) -> list[str]:
    """The words of which shingles are made; a character of a script without blanks is one."""
    text = text.lower()
    return (text if text.isascii() else _CHARACTER.sub(r" \g<0> ", text)).split()


def characters_without_blanks(text: str) -> int:
    """How many characters are of a script without blanks between words."""
    return len(_CHARACTER.findall(text))


def shingles(texts: Sequence[str], k: int) -> Iterator[tuple[int, U64, I64]]:
    """Hashes of the shingles of texts, in batches: number of the first text, hashes [S], and how many belong to each text
    [D] from that one on. A text of fewer than k words is one shingle; one without words has none. A long text goes over
    several batches, which begin at the same text, so that memory is bounded."""
    start, batch, size = 0, list[str](), 0
    for number, text in enumerate(texts):
        if len(text) > _PIECE:
            if batch:
                yield start, *_hashes(batch, k)
            for piece in _pieces(text, k):
                yield number, *_hashes([piece], k)
            start, batch, size = number + 1, [], 0
            continue
        batch.append(_with_blanks(text))
        size += len(text)
        if size >= _PIECE:
            yield start, *_hashes(batch, k)
            start, batch, size = number + 1, [], 0
    if batch:
        yield start, *_hashes(batch, k)


def shingle_sets(texts: Sequence[str], k: int) -> list[U64]:
    """The different shingles of each text, ascending."""
    found: list[list[U64]] = [[] for _ in texts]
    for start, hashes, counts in shingles(texts, k):
        for number, part in enumerate(np.split(hashes, np.cumsum(counts)[:-1]), start):
            found[number].append(part)
    return [np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64) for parts in found]


def jaccard(a: U64, b: U64) -> float:
    """Shared shingles over all shingles of two sets that are sorted; 0 for two empty ones, which share nothing."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def mixed(values: U64) -> U64:
    """Every bit of the result depends on every bit of the value; different values stay different (splitmix64's last step)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _with_blanks(text: str) -> str:
    """The text in lower case with the same words, all of them between blanks of ASCII."""
    lower = text.lower()
    return " ".join(words(lower)) if not lower.isascii() and _SPECIAL.search(lower) else lower


def _pieces(text: str, k: int) -> Iterator[str]:
    """A long text cut between words; every piece begins with the last k - 1 words of the one before."""
    start, before = 0, list[str]()
    while start < len(text):
        end = min(len(text), start + _PIECE)
        if end < len(text):
            cut = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = cut + 1 if cut > start else end
        new = words(text[start:end])
        if new:
            yield " ".join(before + new)
            before = (before + new)[-(k - 1) :] if k > 1 else []
        start = end


def _hashes(texts: Sequence[str], k: int) -> tuple[U64, I64]:
    """Hashes of the shingles of texts whose words stand between blanks, and how many each text has."""
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    data = np.frombuffer(b" ".join([*raw, b" " * 8]), np.uint8)
    blank = _BLANK[data]
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    edges = edges if blank[0] else np.concatenate([[0], edges])
    starts, ends = edges[::2], edges[1::2]
    hashes = _word_hashes(data, starts, ends - starts)
    text_ends = np.cumsum([len(r) + 1 for r in raw])
    last = np.searchsorted(starts, text_ends)  # word behind each text
    number = np.diff(last, prepend=0)
    counts = np.where(number, np.maximum(number - k + 1, 1), 0)
    offsets = np.cumsum(counts) - counts
    begin = np.arange(int(counts.sum())) + np.repeat(last - number - offsets, counts)
    padded = np.concatenate([hashes, np.zeros(k, np.uint64)])
    places = np.multiply.accumulate(np.full(k, _ODD))
    sums = padded[: len(hashes)] * places[0]
    for place in range(1, k):
        sums += padded[place : place + len(hashes)] * places[place]
    short = np.flatnonzero((number > 0) & (number < k))  # these sums ran into the next text
    inside = np.arange(k) < number[short, None]
    sums[(last - number)[short]] = (padded[(last - number)[short, None] + np.arange(k)] * places * inside).sum(
        1, dtype=np.uint64
    )
    return mixed(sums[begin]), counts


def _word_hashes(data: np.ndarray, starts: I64, lengths: I64) -> U64:
    eights = np.ndarray((len(data) - 7,), "<u8", data.tobytes(), strides=(1,))  # the eight bytes from each place on
    hashes = mixed((eights[starts] & _MASKS[np.minimum(lengths, 8)]) + lengths.astype(np.uint64) * _ODD)
    left = np.flatnonzero((lengths > 8) & (lengths <= _LONG))
    for done in range(8, _LONG, 8):
        if not len(left):
            break
        part = eights[starts[left] + done] & _MASKS[np.minimum(lengths[left] - done, 8)]
        hashes[left] = mixed(hashes[left] * _ODD + part)
        left = left[lengths[left] > done + 8]
    for word in np.flatnonzero(lengths > _LONG):
        raw = data[starts[word] : starts[word] + lengths[word]].tobytes()
        hashes[word] = int.from_bytes(hashlib.sha256(raw).digest()[:8], "little")
    return hashes
