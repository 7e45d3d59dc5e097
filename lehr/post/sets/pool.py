"""Rendered conversations on disk: token ids, which of them are trained, and where each conversation begins. They are mapped
into memory, so that their number does not matter."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from lehr.post.rendered import Rendered
from lehr.runtime.errors import UserError

IDS, TRAINED, OFFSETS, DRAWN = "ids.bin", "trained.bin", "offsets.bin", "drawn.bin"
WEIGHTS = "weights.bin"  # of the loss; there only if they are not all 1
_AGAIN = "delete the artifact and run the same command again"


class PoolWriter:
    """Appends rendered conversations to the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids, self._trained = (folder / IDS).open("wb"), (folder / TRAINED).open("wb")
        self._offsets, self._weights = array("q", [0]), array("d")

    def __enter__(self) -> PoolWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ids.close()
        self._trained.close()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, row: Rendered) -> None:
        """Append one conversation."""
        self._ids.write(np.array(row.ids, "<u4").tobytes())
        self._trained.write(np.array(row.mask, "u1").tobytes())
        self._offsets.append(self._offsets[-1] + len(row.ids))
        self._weights.append(row.weight)

    def finish(self, drawn: Sequence[int]) -> None:
        """Write where conversations begin, and the numbers of those that an epoch has, in order and with repeats."""
        (self._folder / OFFSETS).write_bytes(np.array(self._offsets, "<i8").tobytes())
        (self._folder / DRAWN).write_bytes(np.array(drawn, "<i8").tobytes())
        if any(weight != 1.0 for weight in self._weights):
            (self._folder / WEIGHTS).write_bytes(np.array(self._weights, "<f8").tobytes())


class Pool(Sequence[Rendered]):
    """The conversations of an epoch."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError if the files do not belong together."""
        self._offsets, self._drawn = _mapped(folder / OFFSETS, "<i8"), _mapped(folder / DRAWN, "<i8")
        self._ids, self._trained = _mapped(folder / IDS, "<u4"), _mapped(folder / TRAINED, "u1")
        count = len(self._offsets) - 1
        self._weights = _mapped(folder / WEIGHTS, "<f8") if (folder / WEIGHTS).exists() else np.ones(max(0, count))
        whole = int(self._offsets[-1]) if len(self._offsets) else -1
        if whole != len(self._ids) or whole != len(self._trained) or len(self._weights) != count or not len(self._drawn):
            raise UserError("the conversations' files do not belong together", where=folder, remedy=_AGAIN)

    def __len__(self) -> int:
        return len(self._drawn)

    @overload
    def __getitem__(self, index: int) -> Rendered: ...

    @overload
    def __getitem__(self, index: slice) -> list[Rendered]: ...

    def __getitem__(self, index: int | slice) -> Rendered | list[Rendered]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._row(int(self._drawn[index]))

    def kept(self) -> Iterator[Rendered]:
        """Every conversation once, drawn or not, in the order in which they were added."""
        return (self._row(row) for row in range(len(self._offsets) - 1))

    def _row(self, row: int) -> Rendered:
        here = slice(int(self._offsets[row]), int(self._offsets[row + 1]))
        return Rendered(self._ids[here].tolist(), self._trained[here].astype(bool).tolist(), float(self._weights[row]))

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each conversation of the epoch, int64."""
        drawn = np.asarray(self._drawn)
        found: np.ndarray = self._offsets[drawn + 1] - self._offsets[drawn]
        return found


def _mapped(path: Path, kind: str) -> np.ndarray:
    try:
        size = path.stat().st_size
        if size % np.dtype(kind).itemsize:
            raise UserError("truncated", where=path, remedy=_AGAIN)
        return np.memmap(path, dtype=kind, mode="r") if size else np.zeros(0, kind)
    except FileNotFoundError:
        raise UserError("no such file", where=path, remedy=_AGAIN) from None
