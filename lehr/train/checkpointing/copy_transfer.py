"""Files of one rank's machine to another's, through a process group for host memory, in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

PIECE = 32 << 20  # bytes in one message: bounds the buffers


def _pieces(size: int) -> list[tuple[int, int]]:
    return [(start, min(PIECE, size - start)) for start in range(0, size, PIECE)]


def _read(file: BinaryIO, length: int) -> Tensor:
    piece = torch.empty(length, dtype=torch.uint8)
    if file.readinto(piece.numpy().data) != length:  # type: ignore[attr-defined]
        raise OSError("a copy became shorter while it was sent")
    return piece


class _Sink:
    """Writes and hashes what arrives. A full memory is kept as `failure`: the sender must not wait for this rank."""

    def __init__(self, path: Path) -> None:
        self.path, self.digest, self.failure = path, hashlib.sha256(), ""
        self._file: BinaryIO | None = self._try(self._open)

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path.open("wb")

    def write(self, piece: Tensor) -> None:
        data = np.ascontiguousarray(piece.numpy()).data
        self.digest.update(data)
        if self._file is not None:
            file = self._file
            self._try(lambda: file.write(data))

    def close(self) -> str:
        """The hash of what arrived. Raises OSError if it could not be written."""
        if self._file is not None:
            file = self._file
            self._try(file.close)
        if self.failure:
            raise OSError(self.failure)
        return self.digest.hexdigest()

    def _try(self, act: Any) -> Any:
        try:
            return act()
        except OSError as error:
            self.failure, self._file = self.failure or str(error), None
            return None


def swap(group: Any, to: int, sent: Path, source: int, size: int, received: Path) -> str:
    """Send the file `sent` to rank `to` while `size` bytes from rank `source` go into `received`; the hash of those. Raises
    OSError if memory is full, only after everything was sent and received; RuntimeError if a peer is gone."""
    sink = _Sink(received)
    with sent.open("rb") as file:
        out, into = iter(_pieces(sent.stat().st_size)), iter(_pieces(size))
        while True:
            going, coming = next(out, None), next(into, None)
            if going is None and coming is None:
                return sink.close()
            waits: list[Any] = []
            if going is not None:
                waits.append(dist.isend(_read(file, going[1]), to, group=group))
            if coming is not None:
                piece = torch.empty(coming[1], dtype=torch.uint8)
                waits.append(dist.irecv(piece, source, group=group))
            for wait in waits:
                wait.wait()
            if coming is not None:
                sink.write(piece)


def send(path: Path, sha256: str, to: int) -> None:
    """Send a file to a rank that calls `receive`, through the default group. Raises RuntimeError if it is gone."""
    size = path.stat().st_size
    dist.send(torch.tensor([size, *words(sha256)]), to)
    with path.open("rb") as file:
        for _, length in _pieces(size):
            dist.send(_read(file, length), to)


def receive(path: Path, source: int) -> tuple[int, str]:
    """The file that `source` sends, as (bytes, hash). Raises OSError if memory is full or other bytes came than were sent;
    RuntimeError if it is gone."""
    head = torch.zeros(9, dtype=torch.int64)
    dist.recv(head, source)
    size, *said = (int(word) for word in head)
    sink = _Sink(path)
    for piece in _received(size, source):
        sink.write(piece)
    if (found := sink.close()) != unworded(said):
        raise OSError("other bytes came than were sent")
    return size, found


def words(sha256: str) -> list[int]:
    """A hash as eight numbers."""
    return [int(sha256[start : start + 8], 16) for start in range(0, 64, 8)]


def unworded(numbers: list[int]) -> str:
    """The inverse of `words`."""
    return "".join(f"{number:08x}" for number in numbers)


def _received(size: int, source: int) -> Iterator[Tensor]:
    for _, length in _pieces(size):
        piece = torch.empty(length, dtype=torch.uint8)
        dist.recv(piece, source)
        yield piece
