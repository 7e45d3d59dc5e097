"""Signatures on disk: a file of records for each part of a corpus, and where later corpora are to be compared, one of
shingle sets.

FILE.sig: a line of JSON (method), padded to `_HEADER` bytes, then the records. FILE.sets: the sets, one after another,
8 bytes for each shingle. FILE.ends: where each ends, in shingles, 8 bytes. A file is complete once `close` has renamed
it.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lehr.data.dedup.signer import Signer
from lehr.data.joins import I64, U64
from lehr.runtime.errors import UserError
from lehr.runtime.paths import beside

_HEADER = 4096


class SignatureFile:
    """A file being written. Use it as a context: it is there, whole, at the end of one that raised nothing."""

    def __init__(self, path: Path, signer: Signer, sets: bool = False) -> None:
        """`path` ends in .sig. With `sets` the shingle sets are kept too."""
        self._path = path
        self._parts = [path, *([path.with_suffix(".sets"), path.with_suffix(".ends")] if sets and signer.fuzzy else [])]
        self._files = [beside(part).open("wb") for part in self._parts]
        self._files[0].write(json.dumps(signer.method).encode().ljust(_HEADER - 1) + b"\n")
        self._end = 0

    def add(self, records: np.ndarray, sets: Sequence[U64] = ()) -> None:
        """Append the documents' records, and their sets where they are kept."""
        self._files[0].write(records.tobytes())
        if len(self._files) > 1:
            ends = self._end + np.cumsum([len(one) for one in sets], dtype=np.uint64)
            self._files[1].writelines(one.astype("<u8").tobytes() for one in sets)
            self._files[2].write(ends.astype("<u8").tobytes())
            self._end = int(ends[-1]) if len(ends) else self._end

    def __enter__(self) -> SignatureFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            file.close()
        for part in reversed(self._parts):  # the records last: whoever sees them sees the sets
            if kind is None:
                beside(part).replace(part)
            else:
                beside(part).unlink(missing_ok=True)


class Signatures:
    """The files of a corpus, in order: the document in row i of all of them has the number `first + i`. Files are opened
    for each reading, so that it can be sent to other processes, and nothing is held in memory."""

    def __init__(self, paths: Sequence[Path], signer: Signer, *, earlier: bool = False) -> None:
        """`earlier`: of an earlier corpus, with numbers -1, -2, ... from the end. Raises UserError for a file that is
        damaged, or that was made by another method."""
        self._paths, self._dtype = list(paths), signer.dtype
        self._ends = list(accumulate(_rows(path, signer) for path in self._paths))
        self.first = -len(self) if earlier else 0

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def folder(self) -> Path | None:
        """Where the first file is; None without files."""
        return self._paths[0].parent if self._paths else None

    def batches(self, size: int = 1 << 14) -> Iterator[tuple[int, np.ndarray]]:
        """The number of a batch's first document, and the records."""
        number = self.first
        for path in self._paths:
            with path.open("rb") as f:
                f.seek(_HEADER)
                while raw := f.read(size * self._dtype.itemsize):
                    records = np.frombuffer(raw, self._dtype)
                    yield number, records
                    number += len(records)

    def records(self, numbers: I64) -> np.ndarray:
        """The records of these documents, given in ascending order."""
        size = self._dtype.itemsize

        def read(file: Any, row: int) -> bytes:
            file.seek(_HEADER + row * size)
            return bytes(file.read(size))

        return np.frombuffer(b"".join(self._each(numbers, ".sig", read)), self._dtype)

    def sets(self, numbers: I64) -> list[U64]:
        """Their shingle sets."""

        def ends(file: Any, row: int) -> tuple[int, int]:
            file.seek(8 * max(0, row - 1))
            found = [int.from_bytes(file.read(8), "little") for _ in range(2 if row else 1)]
            return (found[0], found[1]) if row else (0, found[0])

        spans = list(self._each(numbers, ".ends", ends))
        waiting = iter(spans)

        def read(file: Any, row: int) -> U64:
            start, end = next(waiting)
            file.seek(8 * start)
            return np.frombuffer(file.read(8 * (end - start)), "<u8").astype(np.uint64)

        return list(self._each(numbers, ".sets", read))

    def _each(self, numbers: I64, suffix: str, read: Callable[[Any, int], Any]) -> Iterator[Any]:
        """`read(file, row in it)` of every number; a file is opened once for those that follow each other in it."""
        opened, file = -1, None
        try:
            for row in (numbers - self.first).tolist():
                index = bisect.bisect_right(self._ends, row)
                if index != opened:
                    if file:
                        file.close()
                    file, opened = self._paths[index].with_suffix(suffix).open("rb"), index
                yield read(file, row - (self._ends[index - 1] if index else 0))
        finally:
            if file:
                file.close()


def keep_signatures(own: Signatures, dropped: I64, path: Path, signer: Signer, sets: Callable[[I64], list[U64]]) -> None:
    """Write what stays of a corpus into one file, with sets, for `against` of a later one. `dropped` are numbers in
    ascending order, `sets` gives the shingle sets of numbers."""
    with SignatureFile(path, signer, sets=True) as out:
        for start, records in own.batches(512):
            numbers = np.arange(start, start + len(records))
            kept = ~np.isin(numbers, dropped)
            out.add(records[kept], sets(numbers[kept]) if signer.fuzzy else ())


def _rows(path: Path, signer: Signer) -> int:
    """The number of documents in a file. Raises UserError."""
    remedy = "make it again with this version and this recipe's `deduplication`, or leave it out"
    try:
        with path.open("rb") as f:
            method = json.loads(f.read(_HEADER))
    except (OSError, ValueError) as error:
        raise UserError(f"no file of signatures: {error}", where=path, remedy=remedy) from None
    if method != signer.method:
        raise UserError("signatures of another method than this recipe's cannot be compared", where=path, remedy=remedy)
    if not signer.dtype.itemsize:  # nothing is compared
        return 0
    rows, rest = divmod(path.stat().st_size - _HEADER, signer.dtype.itemsize)
    if rest:
        raise UserError("the file of signatures is cut off", where=path, remedy=remedy)
    return rows
