"""The first token and the id of each document of a shard, memory-mapped, so that opening costs the same for any number of them.

`SOURCE.spans` = 8-byte magic, number of documents as 8 little-endian bytes, first token of each as int64, end of each id in
the ids as int64, and the ids: UTF-8, separated by a byte 0xFF, which does not occur in UTF-8.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import numpy as np

from lehr.runtime.errors import UserError

SPANS_MAGIC = b"LEHRSPN1"
_HEAD, _ITEM = 16, 8
_PAGE = 512  # items that are read at once
_NEAR = 8192  # bytes on both sides of a guess
_LIMIT = b"\xff"


class DocumentIds(Sequence[str]):
    """The ids in the documents' order, decoded on access."""

    def __init__(self, mapped: mmap.mmap, count: int) -> None:
        self._mapped, self._base = mapped, _HEAD + 2 * _ITEM * count + len(_LIMIT)
        self._ends = np.frombuffer(mapped, dtype="<i8", count=count, offset=_HEAD + _ITEM * count)
        self.file_bytes = self._base + int(self._ends[-1]) + len(_LIMIT)  # the file's size according to its own offsets

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self._read(i) for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._read(at % len(self))

    def __iter__(self) -> Iterator[str]:
        return (self._read(i) for i in range(len(self)))

    def _read(self, number: int) -> str:
        begin = int(self._ends[number - 1]) + len(_LIMIT) if number else 0
        return self._mapped[self._base + begin : self._base + int(self._ends[number])].decode(errors="replace")

    def raw(self, first: int, end: int) -> list[bytes]:
        """The ids of documents `first` to `end`, as they are in the file."""
        begin = int(self._ends[first - 1]) + len(_LIMIT) if first else 0
        return self._mapped[self._base + begin : self._base + int(self._ends[end - 1])].split(_LIMIT) if first < end else []


def unhurried(file: int) -> None:
    """Of an open file single items are read: the kernel must not read their neighbourhoods (128 KiB or more) as well."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)


def read_spans(path: Path, remedy: str, *, whole: bool = False) -> tuple[DocumentIds, np.ndarray]:
    """Ids and first tokens; `whole`: all of them will be read, in order. Raises UserError for a file that is missing, or whose
    size does not fit its own offsets."""
    try:
        with path.open("rb", buffering=0) as f:
            if not whole:
                unhurried(f.fileno())
            head = f.read(_HEAD)
            size = path.stat().st_size
            count = int.from_bytes(head[8:], "little")
            if head[:8] != SPANS_MAGIC or not count or size < _HEAD + 2 * _ITEM * count + 2 * len(_LIMIT):
                raise UserError("damaged document spans", where=path, remedy=remedy)
            mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            if not whole and hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)
    except FileNotFoundError:
        raise UserError("no such document spans", where=path, remedy=remedy) from None
    ids = DocumentIds(mapped, count)
    if size != ids.file_bytes:
        raise UserError("damaged document spans", where=path, remedy=remedy)
    return ids, np.frombuffer(mapped, dtype="<i8", count=count, offset=_HEAD)


@contextmanager
def scattered(mapped: mmap.mmap) -> Iterator[None]:
    """While inside, only scattered items are read: the kernel must not read their neighbourhoods (128 KiB each) as well."""
    known = hasattr(mmap, "MADV_RANDOM")
    if known:
        mapped.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        if known:
            mapped.madvise(mmap.MADV_NORMAL)


class SpansFile:
    """The spans of a shard of so many documents, of which single ones are read, by any threads at once. The file was checked
    when its source was opened."""

    def __init__(self, path: Path, documents: int) -> None:
        self._path, self._count = path, documents
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        unhurried(self._file.fileno())

    def starts(self, first: int, end: int) -> np.ndarray:
        """The first tokens of documents `first` to `end`."""
        return self._items(_HEAD + _ITEM * first, end - first)

    def names(self, first: int, end: int) -> list[bytes]:
        """The ids of these documents."""
        if first >= end:
            return []
        ends = self._items(_HEAD + _ITEM * (self._count + first - (first > 0)), end - first + (first > 0))
        begin = int(ends[0]) + len(_LIMIT) if first else 0
        raw = os.pread(self._file.fileno(), int(ends[-1]) - begin, _HEAD + 2 * _ITEM * self._count + len(_LIMIT) + begin)
        return raw.split(_LIMIT)

    def soon(self, token: int, tokens: int) -> None:
        """`find` and `names` will be called for that token: the pages where they will look first are read meanwhile."""
        if not hasattr(os, "posix_fadvise"):
            return
        number, ids = token * self._count // tokens, _HEAD + 2 * _ITEM * self._count
        for at in (
            _HEAD + _ITEM * number, _HEAD + _ITEM * (self._count + number), ids + number * (self._size - ids) // self._count,
        ):  # fmt: skip
            os.posix_fadvise(self._file.fileno(), max(0, at - _NEAR), 2 * _NEAR, os.POSIX_FADV_WILLNEED)

    def find(self, token: int, tokens: int) -> int:
        """The number of the document that holds a token, of all `tokens` of the shard. Where it stands is guessed from
        documents that are known to begin before and after it: a few pages are read however many documents there are."""
        low, high, before, after = 0, self._count, 0, tokens  # document `low` begins no later than `token`, `high` after it
        turn = 0
        while high - low > 1:
            share = 0.5 if turn % 4 == 3 else (token - before) / max(1, after - before)  # not by guesses for ever
            page = (low + 1 + int(share * (high - 1 - low)) + _HEAD // _ITEM) // _PAGE
            first = max(page * _PAGE - _HEAD // _ITEM, low + 1)
            end = min((page + 1) * _PAGE - _HEAD // _ITEM, high)
            if first >= end:
                first, end = high - 1, high
            starts = self.starts(first, end)
            own = int(np.searchsorted(starts, token, side="right"))  # how many of them begin no later
            if own < len(starts):
                high, after = first + own, int(starts[own])
            if own:
                low, before = first + own - 1, int(starts[own - 1])
            turn += 1
        return low

    def _items(self, at: int, count: int) -> np.ndarray:
        raw = os.pread(self._file.fileno(), _ITEM * count, at)
        if len(raw) < _ITEM * count:
            raise UserError("damaged document spans", where=self._path, remedy="delete this artifact and run again")
        return np.frombuffer(raw, "<i8")


class SpansWriter:
    """Writes spans as they come, without a list in memory; the file is complete once it is closed."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self._end = path, 0, 0
        self._parts = [path.with_suffix(f".spans-{name}") for name in ("starts", "ends", "ids")]
        self._starts, self._ends, self._ids = (part.open("wb") for part in self._parts)
        self._ids.write(_LIMIT)

    def extend(self, documents: Sequence[bytes], first_tokens: np.ndarray) -> None:
        """Append documents' ids, as UTF-8, and the first token of each."""
        if not documents:
            return
        ends = self._end + np.cumsum([len(raw) + len(_LIMIT) for raw in documents]) - len(_LIMIT)
        self._starts.write(first_tokens.astype("<i8").tobytes())
        self._ends.write(ends.astype("<i8").tobytes())
        self._ids.write(_LIMIT.join([*documents, b""]))
        self._end = int(ends[-1]) + len(_LIMIT)
        self._count += len(documents)

    def close(self) -> None:
        """Make one file of what was written."""
        for file in (self._starts, self._ends, self._ids):
            file.close()
        with self._path.open("wb") as out:
            out.write(SPANS_MAGIC + self._count.to_bytes(8, "little"))
            for part in self._parts:
                with part.open("rb") as f:
                    shutil.copyfileobj(f, out, 1 << 20)
        for part in self._parts:
            part.unlink()
