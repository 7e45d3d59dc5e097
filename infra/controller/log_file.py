"""The decision log as a file: whole lines only, and never more than twice the room that it was given."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from lehr.runtime.errors import from_os_error

BLOCK = 1 << 16


class LogFile:
    """Appends lines to `path`; one that would make it larger than `most_bytes` begins a new file, and the old is PATH.1.

    What a crash or a full disk left of a line is cut off, so that a reader never meets half of one within the file.
    Opening raises UserError or InfraError.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most, self._lock = path, most_bytes, threading.Lock()
        try:
            self._file = self._open()
        except OSError as error:
            raise from_os_error(error, path) from error

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(file).st_size
        end = _end_of_lines(file, self._size)
        if end != self._size:
            os.ftruncate(file, end)
            self._size = end
        return file

    def write(self, line: str) -> None:
        """Append `line` and a newline. Raises OSError; nothing of the line is there then."""
        data = f"{line}\n".encode()
        with self._lock:
            if self._size and self._size + len(data) > self._most:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                os.close(self._file)
                self._file = self._open()
            try:
                written = os.write(self._file, data)
                if written != len(data):
                    raise OSError(28, "the disk is full", str(self._path))
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(data)

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)


def _end_of_lines(file: int, size: int) -> int:
    """Where the last whole line ends, looking backwards."""
    end = size
    while end > 0:
        begin = max(0, end - BLOCK)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
