"""The first token and the id of each document of a shard, memory-mapped, so that opening costs the same for any number of them.

`SOURCE.spans` = 8-byte magic, number of documents as 8 little-endian bytes, first token of each as int64, end of each id in
the ids as int64, and the ids: UTF-8, separated by a byte 0xFF, which does not occur in UTF-8.
"""

from __future__ import annotations

import mmap
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from lehr.runtime.errors import UserError

SPANS_MAGIC = b"LEHRSPN1"
_HEAD, _ITEM = 16, 8
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

    def find(self, document: str) -> list[int]:
        """The numbers of all documents with that id, and of all chunks of one: a search over the mapped ids that builds no
        index in memory."""
        raw = document.encode(errors="surrogateescape")  # an argument that is not UTF-8 matches no id
        wanted = re.compile(_LIMIT + re.escape(raw) + rb"(?:#[0-9]+)?(?=" + _LIMIT + rb")")
        places = [found.start() for found in wanted.finditer(self._mapped, self._base - len(_LIMIT))]
        return [int(np.searchsorted(self._ends, at + len(_LIMIT) - self._base)) for at in places]


def read_spans(path: Path, remedy: str) -> tuple[DocumentIds, np.ndarray]:
    """Ids and first tokens. Raises UserError for a file that is missing, or whose size does not fit its own offsets."""
    try:
        with path.open("rb") as f:
            head = f.read(_HEAD)
            size = path.stat().st_size
            count = int.from_bytes(head[8:], "little")
            if head[:8] != SPANS_MAGIC or not count or size < _HEAD + 2 * _ITEM * count + 2 * len(_LIMIT):
                raise UserError("damaged document spans", where=path, remedy=remedy)
            mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
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


class SpansWriter:
    """Writes spans one by one, without a list in memory; the file is complete when the context ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self._end = path, 0, 0
        self._parts = [path.with_suffix(f".spans-{name}") for name in ("starts", "ends", "ids")]
        self._starts, self._ends, self._ids = (part.open("wb") for part in self._parts)
        self._ids.write(_LIMIT)

    def add(self, document: str, first_token: int) -> None:
        """Append a document's id and its first token."""
        raw = document.encode()
        self._end += len(raw)
        self._starts.write(first_token.to_bytes(_ITEM, "little"))
        self._ends.write(self._end.to_bytes(_ITEM, "little"))
        self._ids.write(raw + _LIMIT)
        self._end += len(_LIMIT)
        self._count += 1

    def __enter__(self) -> SpansWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._starts, self._ends, self._ids):
            file.close()
        if error is None:
            with self._path.open("wb") as out:
                out.write(SPANS_MAGIC + self._count.to_bytes(8, "little"))
                for part in self._parts:
                    with part.open("rb") as f:
                        shutil.copyfileobj(f, out, 1 << 20)
        for part in self._parts:
            part.unlink()
