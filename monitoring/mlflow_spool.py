"""What waits to be sent to MLflow: a file of JSON lines in the run's folder, one for each process that writes.

A record is written here before it is sent, and the file is emptied once MLflow has everything. So a server that is down costs
disk, not memory, and what a killed process did not send is sent by the next one, or by `lehr mlflow RUN --send`. The first line
says which run in MLflow the records belong to. A process holds a lock on its own file for as long as it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = "mlflow-pending"  # in the run's folder
MOST_HELD = 10_000  # records kept in memory while the disk takes none
_SUFFIX = ".jsonl"
Record = dict[str, Any]


class Spool:
    """A queue of records. One thread appends and another reads; both may be of any speed."""

    def __init__(self, path: Path, header: Record) -> None:
        """Create the file `path` with its first record when the first other one is appended. Raises nothing: a disk that takes
        no file costs the guarantee, not the run."""
        self.path, self.header = path, header
        self.lost = 0  # records that neither the disk nor the memory could hold
        self._held: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._descriptor = -1
        self._first = self._read = self._size = 0  # bytes: of the header, of what was sent, of the file

    @classmethod
    def new(cls, folder: Path, header: Record) -> Spool:
        """A spool for this process in `folder`; names sort by age."""
        return cls(folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}", header)

    @classmethod
    def adopt(cls, path: Path) -> Spool | None:
        """The file of a process that has ended; None while it lives, and for a file without a readable header. Raises
        OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with path.open("rb") as file:
                line = file.readline()
            header = json.loads(line)
        except (BlockingIOError, ValueError):
            os.close(descriptor)
            return None
        spool = cls(path, header)
        spool._descriptor, spool._first, spool._read = descriptor, len(line), len(line)
        spool._size = os.fstat(descriptor).st_size
        return spool

    def append(self, records: Sequence[Record]) -> None:
        """Write records at the end. Raises nothing."""
        lines = [json.dumps(record, default=str).encode("utf-8", "replace") + b"\n" for record in records]
        with self._lock:
            self._held.extend(lines)
            with suppress(OSError):  # they stay in memory, and are tried again with the next ones
                self._write()
            while len(self._held) > MOST_HELD:
                self._held.popleft()
                self.lost += 1

    def _write(self) -> None:
        if self._descriptor < 0:
            self._create()
        text = b"".join(self._held)
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # no half line before the next one
            raise
        self._size = os.fstat(self._descriptor).st_size
        self._held.clear()

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            line = json.dumps(self.header).encode() + b"\n"
            os.write(descriptor, line)
        except OSError:
            os.close(descriptor)
            self.path.unlink(missing_ok=True)
            raise
        self._descriptor, self._first, self._read, self._size = descriptor, len(line), len(line), len(line)

    def peek(self, most_bytes: int = 1 << 18) -> list[tuple[Record | None, int]]:
        """The oldest records, about `most_bytes` of them, each with its length in bytes; None for a line that is damaged. A
        record stays until `sent`. Raises OSError."""
        with self._lock:
            if self._read < self._size:
                lines = _whole_lines(self._descriptor, self._read, self._size, most_bytes)
            else:
                lines = [line for line, _ in zip(self._held, range(500), strict=False)]
        return [(_parsed(line), len(line)) for line in lines]

    def sent(self, size: int) -> None:
        """Forget the oldest `size` bytes, which are whole records. Raises OSError."""
        with self._lock:
            if self._read < self._size:
                self._read += size
                if self._read >= self._size:
                    os.ftruncate(self._descriptor, self._first)
                    self._read = self._size = self._first
                return
            while size > 0:
                size -= len(self._held.popleft())

    @property
    def waiting(self) -> bool:
        """Whether anything was not sent."""
        with self._lock:
            return self._read < self._size or bool(self._held)

    def count(self) -> int:
        """How many records wait. Raises OSError."""
        with self._lock:
            left = os.pread(self._descriptor, self._size - self._read, self._read) if self._size > self._read else b""
            return left.count(b"\n") + len(self._held)

    def close(self) -> None:
        """Release the file, and delete it with its folder unless something waits in it. Raises nothing."""
        with self._lock:
            if self._descriptor < 0:
                return
            with suppress(OSError):  # what was sent is then sent again, which changes nothing
                if self._read >= self._size:
                    self.path.unlink(missing_ok=True)
                    self.path.parent.rmdir()  # unless others are in it
                elif self._read > self._first:
                    self._drop_sent()
            os.close(self._descriptor)
            self._descriptor = -1
            self._first = self._read = self._size = 0

    def _drop_sent(self) -> None:
        """Replace the file by one without what was sent."""
        beside = self.path.with_suffix(".tmp")
        header = os.pread(self._descriptor, self._first, 0)
        beside.write_bytes(header + os.pread(self._descriptor, self._size - self._read, self._read))
        os.replace(beside, self.path)


def leftovers(folder: Path) -> Iterator[Spool]:
    """The spools in `folder` of processes that have ended, oldest first, with their locks held. Raises OSError."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with suppress(FileNotFoundError):  # another process has just sent it
            if spool := Spool.adopt(path):
                yield spool


def _whole_lines(descriptor: int, start: int, end: int, most: int) -> list[bytes]:
    """Lines from `start`, at least one; the last of a file may have been cut off by a kill, and counts as a line."""
    size = min(most, end - start)
    while b"\n" not in (text := os.pread(descriptor, size, start)) and start + size < end:
        size = min(2 * size, end - start)
    if start + size < end:
        text = text[: text.rindex(b"\n") + 1]
    return text.splitlines(keepends=True)


def _parsed(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
