"""The decision log as a file: whole lines only, and never more than twice the size that it was given."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from lehr.runtime.errors import from_os_error

BLOCK = 1 << 16


class LogFile:
    """Appends lines to `path`; a line that would exceed `most_bytes` starts a new file, and the old one is renamed to PATH.1.

    A partial line left by a crash or a full disk is truncated, so that readers never meet one inside the file.
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
        """Append `line` and a newline. Raises OSError, after which no part of the line is in the file."""
        data = f"{line}\n".encode()
        with self._lock:
            if self._size and self._size + len(data) > self._most:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                os.close(self._file)
                self._file = self._open()
            # One write call with O_APPEND: another process that appends cannot split the line.
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
    """The offset after the last whole line, searching backwards."""
    end = size
    while end > 0:
        begin = max(0, end - BLOCK)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
