"""Rows on their way through the preparation: JSON lines in frames of zstd, read in order, or some of them by their numbers.

A file is complete or absent: it is written under another name, and its index, which stands behind the last frame, with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zstandard

from lehr.runtime.errors import UserError
from lehr.runtime.paths import beside

_FRAME_ROWS, _FRAME_BYTES = 256, 1 << 20  # a frame ends at whichever comes first: what one look-up decompresses
_LEVEL = 1  # these files live for minutes
_MAGIC = b"LEHRROWS"
_REMEDY = "delete this attempt's folder and run the same command again"
Row = dict[str, Any]


class RowsWriter:
    """Writes rows; the file has its name when the `with` block ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, beside(path)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._lines: list[bytes] = []
        self._size, self._rows, self._offset = 0, 0, 0
        self._index: list[tuple[int, int]] = []  # of each frame: its first row, its first byte

    def __enter__(self) -> Self:
        self._file = self._partial.open("wb")
        return self

    def add(self, row: Row) -> None:
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._lines.append(line)
        self._size += len(line)
        self._rows += 1
        if len(self._lines) == _FRAME_ROWS or self._size >= _FRAME_BYTES:
            self._end_frame()

    def _end_frame(self) -> None:
        if self._lines:
            frame = self._compressor.compress(b"".join(self._lines))
            self._index.append((self._rows - len(self._lines), self._offset))
            self._file.write(frame)
            self._offset += len(frame)
            self._lines, self._size = [], 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._end_frame()
            index = np.array([*self._index, (self._rows, self._offset)], "<i8").tobytes()
            self._file.write(index + len(index).to_bytes(8, "little") + _MAGIC)
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


class Rows:
    """The rows of one file. Raises UserError for one that is no such file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 16))
            tail = file.read(16)
            length = int.from_bytes(tail[:8], "little")
            if tail[8:] != _MAGIC or length > end - 16 or length % 16:
                raise UserError("damaged rows", where=path, remedy=_REMEDY)
            file.seek(end - 16 - length)
            index = np.frombuffer(file.read(length), "<i8").reshape(-1, 2)
        self._first, self._bytes = index[:, 0], index[:, 1]

    def __len__(self) -> int:
        return int(self._first[-1])

    def __iter__(self) -> Iterator[Row]:
        """All of them, a frame in memory at once."""
        with self._path.open("rb") as file:
            for frame in range(len(self._first) - 1):
                yield from self._frame(file, frame)

    def at(self, numbers: Sequence[int]) -> Iterator[Row]:
        """The rows of these numbers, which ascend; each frame is read once."""
        frames = np.searchsorted(self._first, np.asarray(numbers, np.int64), side="right") - 1
        with self._path.open("rb") as file:
            for frame, wanted in groupby(zip(frames.tolist(), numbers, strict=True), key=lambda pair: pair[0]):
                rows = self._frame(file, frame)
                yield from (rows[number - int(self._first[frame])] for _, number in wanted)

    def _frame(self, file: Any, frame: int) -> list[Row]:
        start, end = int(self._bytes[frame]), int(self._bytes[frame + 1])
        file.seek(start)
        try:
            lines = zstandard.ZstdDecompressor().decompress(file.read(end - start)).splitlines()
            return [json.loads(line) for line in lines]
        except (zstandard.ZstdError, ValueError) as error:
            raise UserError(f"damaged rows ({error})", where=self._path, remedy=_REMEDY) from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all of `rows`."""
    with ExitStack() as stack:
        writer = stack.enter_context(RowsWriter(path))
        for row in rows:
            writer.add(row)
