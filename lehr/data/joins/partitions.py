"""Rows on disk, cut by key into parts that fit in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

_BITS = 6  # of the key, that a row's file is chosen by: 64 files
_BATCH = 1 << 14  # rows of a file that are cut further at a time
_LEVELS = 5  # after which a part is taken whole: its keys are one key, or as good as


class Partitions:
    """Rows that are added in any order, and read part by part: all rows of a key are in one part. The first column is the
    key, a hash (uint64, as likely to be any number as any other). Files are in a folder in `folder`, and deleted as they are
    read."""

    def __init__(self, folder: Path, **columns: str) -> None:
        """`columns`: their types, as NumPy's."""
        self._dtype, self.key = np.dtype(list(columns.items())), next(iter(columns))
        self._folder = Path(tempfile.mkdtemp(prefix="rows-", dir=folder))
        self._numbers = count()
        self._files = self._new_files()

    def add(self, **columns: np.ndarray) -> None:
        self._spread(self._files, 0, columns)

    def parts(self, most: int) -> Iterator[np.ndarray]:
        """Parts of at most `most` rows (but for a key that has more), ascending by key; the rows of one in the order in which
        they were added. Can be asked for once."""
        yield from self._parts(self._files, 1, most)
        self._folder.rmdir()

    def _parts(self, files: list[Path], level: int, most: int) -> Iterator[np.ndarray]:
        for path in files:
            if not path.exists():
                continue
            if path.stat().st_size <= most * self._dtype.itemsize or level == _LEVELS:
                records = np.fromfile(path, self._dtype)
                path.unlink()
                yield records
                continue
            smaller = self._new_files()
            with path.open("rb") as file:
                while raw := file.read(_BATCH * self._dtype.itemsize):
                    records = np.frombuffer(raw, self._dtype)
                    self._spread(smaller, level, {name: records[name] for name in self._dtype.names or ()})
            path.unlink()
            yield from self._parts(smaller, level + 1, most)

    def _spread(self, files: list[Path], level: int, columns: dict[str, np.ndarray]) -> None:
        shift = np.uint64(64 - _BITS * (level + 1))
        file = (columns[self.key] >> shift) & np.uint64((1 << _BITS) - 1)
        order = np.argsort(file.astype(np.uint8), kind="stable")
        records = np.empty(len(order), self._dtype)
        for name, values in columns.items():
            records[name] = values[order]
        ends = np.cumsum(np.bincount(file.astype(np.int64), minlength=1 << _BITS)).tolist()
        for path, start, end in zip(files, [0, *ends], ends, strict=False):
            if start < end:
                with path.open("ab") as out:
                    out.write(records[start:end].data)

    def _new_files(self) -> list[Path]:
        number = next(self._numbers)
        return [self._folder / f"{number}-{index:02d}" for index in range(1 << _BITS)]
