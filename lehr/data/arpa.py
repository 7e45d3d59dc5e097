"""Reading n-gram models in ARPA's text format, as KenLM's lmplz and SRILM write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lehr.data.lines import lines
from lehr.data.ngram_model import MARKS, NEVER, NgramLanguageModel, Normalise, Order, check
from lehr.runtime.errors import UserError

_REMEDY = "give an ARPA file with the prefixes of all its n-grams, as lmplz writes it"
_COUNT = re.compile(rb"ngram (\d+)\s*=\s*(\d+)")
_LONGEST = 1 << 16  # bytes of a line


def read_arpa(path: Path, normalise: Normalise) -> NgramLanguageModel:
    """The model in a file, plain or compressed. Raises UserError for one that is damaged, and for an n-gram whose first words
    are no n-gram of the file."""
    try:
        return _read(_Lines(path), normalise)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"damaged ARPA file ({error})", where=path, remedy=_REMEDY) from None


class _Lines:
    """The lines of a file. `next` raises ValueError at its end, where more was promised."""

    def __init__(self, path: Path) -> None:
        self._lines: Iterator[bytes] = (raw.strip() for _, raw in lines(path, _LONGEST))

    def next(self) -> bytes:
        found = next(self._lines, None)
        if found is None:
            raise ValueError("it ends too early")
        return found


def _read(file: _Lines, normalise: Normalise) -> NgramLanguageModel:
    while file.next() != b"\\data\\":
        pass
    counts = list[int]()
    while match := _COUNT.fullmatch(line := file.next()):
        counts.append(int(match[2]))
    words = {mark: number for number, mark in enumerate(MARKS)}
    orders = list[Order]()
    for n, count in enumerate(counts, 1):
        if line != b"\\%d-grams:" % n:
            raise ValueError(f"{line[:40]!r} where {n}-grams should begin")
        rows = [_row(file.next(), n) for _ in range(count)]
        orders.append(_singles(rows, words) if n == 1 else _longer(rows, words, orders, n))
        line = file.next()
    if line != b"\\end\\" or not counts:
        raise ValueError(f"{line[:40]!r} where it should end")
    check(list(words), orders)
    return NgramLanguageModel(words, orders, normalise)


_Row = tuple[float, list[str], float]


def _row(line: bytes, n: int) -> _Row:
    parts = line.decode("utf-8").split()
    if len(parts) not in (n + 1, n + 2):
        raise ValueError(f"{line[:40]!r} is no {n}-gram")
    return float(parts[0]), parts[1 : n + 1], float(parts[n + 1]) if len(parts) == n + 2 else 0.0


def _singles(rows: list[_Row], words: dict[str, int]) -> Order:
    for _, (word,), _ in rows:
        words.setdefault(word, len(words))
    logs, backoffs = np.full(len(words), NEVER, np.float32), np.zeros(len(words), np.float32)
    for log, (word,), backoff in rows:
        logs[words[word]], backoffs[words[word]] = log, backoff
    return Order(np.zeros(0, np.uint64), logs, backoffs)


def _longer(rows: list[_Row], words: dict[str, int], lower: list[Order], n: int) -> Order:
    unknown = len(words)
    ids = np.array([[words.get(word, unknown) for word in those] for _, those, _ in rows], np.int64).reshape(len(rows), n)
    if (ids == unknown).any():
        raise ValueError(f"a {n}-gram has a word that is no 1-gram")
    place, size = ids[:, 0], np.uint64(len(words))
    for column in range(1, n):
        keys = place.astype(np.uint64) * size + ids[:, column].astype(np.uint64)
        if column == n - 1:
            break
        place = lower[column].find(keys)
        if (place < 0).any():
            raise ValueError(
                f"the first words of a {n}-gram are no n-gram of it: {' '.join(rows[int(place.argmin())][1])[:60]}"
            )
    order = np.argsort(keys, kind="stable")
    logs = np.array([log for log, _, _ in rows], np.float32)[order]
    return Order(keys[order], logs, np.array([backoff for _, _, backoff in rows], np.float32)[order])
