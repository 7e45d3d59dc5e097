"""The documents of a source over all of its shards: by number, by token, by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from lehr.data.spans import SpansFile
from lehr.data.tokens.files import Shard
from lehr.data.tokens.ids import IdIndex, family

_OPEN = 256  # shards whose spans are open at once


class Span(NamedTuple):
    """A document's id, and its first token and the one after its last, in the source's tokens."""

    id: str
    first: int
    end: int


class Documents(Sequence[Span]):
    """`spans(shard)` is the path of a shard's spans, and `ids()` that of the source's index; both may fetch the file."""

    def __init__(self, shards: Sequence[Shard], spans: Callable[[int], Path], ids: Callable[[], Path]) -> None:
        self._shards = shards
        self._first_numbers = np.array([0, *accumulate(shard.documents for shard in shards)])
        self._first_tokens = np.array([0, *accumulate(shard.tokens for shard in shards)])
        self._path, self._ids = spans, ids
        self._spans = lru_cache(_OPEN)(self._open)
        self._index: IdIndex | None = None

    def __len__(self) -> int:
        return int(self._first_numbers[-1])

    @overload
    def __getitem__(self, at: int) -> Span: ...
    @overload
    def __getitem__(self, at: slice) -> list[Span]: ...
    def __getitem__(self, at: int | slice) -> Span | list[Span]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        shard = int(np.searchsorted(self._first_numbers, at, side="right")) - 1
        spans, own = self._spans(shard), at - int(self._first_numbers[shard])
        last = own + 1 == self._shards[shard].documents
        starts = spans.starts(own, own + 2 - last).tolist()
        first, end = starts if not last else (*starts, self._shards[shard].tokens)
        before = int(self._first_tokens[shard])
        return Span(spans.names(own, own + 1)[0].decode(errors="replace"), before + first, before + end)

    def close(self) -> None:
        """Close the spans' files; they are opened again when they are asked for."""
        self._spans.cache_clear()

    def at(self, token: int) -> int:
        """The number of the document to which that token belongs."""
        shard = int(np.searchsorted(self._first_tokens, token, side="right")) - 1
        own = self._spans(shard).find(token - int(self._first_tokens[shard]), self._shards[shard].tokens)
        return int(self._first_numbers[shard]) + own

    def soon(self, token: int) -> None:
        """The document of that token is asked for after others: let the disk read what will be needed, if it is not there."""
        shard = int(np.searchsorted(self._first_tokens, token, side="right")) - 1
        self._spans(shard).soon(token - int(self._first_tokens[shard]), self._shards[shard].tokens)

    def within(self, begin: int, end: int) -> list[str]:
        """The ids of the documents that have one of the tokens `begin` to `end`, which is excluded."""
        first, after = self.at(begin), self.at(end - 1) + 1
        found = list[bytes]()
        while first < after:
            shard = int(np.searchsorted(self._first_numbers, first, side="right")) - 1
            before, limit = int(self._first_numbers[shard]), min(after, int(self._first_numbers[shard + 1]))
            found += self._spans(shard).names(first - before, limit - before)
            first = limit
        return [raw.decode(errors="replace") for raw in found]

    def find(self, document: str) -> list[int]:
        """The numbers of all documents with that id, and of all chunks of one."""
        raw = document.encode(errors="surrogateescape")  # an argument that is not UTF-8 is no id
        if self._index is None:
            self._index = IdIndex(self._ids(), len(self))
        numbers = {number for name in {raw, family(raw)} for number in self._index.numbers(name)}
        return [number for number in sorted(numbers) if raw in (own := self._raw(number), family(own))]

    def _raw(self, number: int) -> bytes:
        shard = int(np.searchsorted(self._first_numbers, number, side="right")) - 1
        own = number - int(self._first_numbers[shard])
        return self._spans(shard).names(own, own + 1)[0]

    def _open(self, shard: int) -> SpansFile:
        return SpansFile(self._path(shard), self._shards[shard].documents)
