"""The incidents of a stage over all its attempts, one dated line each, and the liveness lock of an attempt, by which the next
attempt can tell how it ended."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, Artifact
from lehr.runtime.errors import from_os_error
from lehr.runtime.redaction import masked

FILE = "incidents.txt"
NO_END = "recorded no end"  # in the line about an attempt that was killed
_ROOM = 4096  # bytes reserved when an attempt begins, so that its exit reason can be written even when the disk is full


def record(scratch: Path, text: str) -> None:
    """Append a line to the incidents in the scratch folder."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    with (scratch / FILE).open("a", encoding="utf-8") as kept:
        kept.write(f"{now} {_one_line(text)}\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def read_incidents(artifact: Artifact) -> list[str]:
    """The lines in an artifact's logs, oldest first."""
    path = artifact.path(f"{LOGS}/{FILE}")
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def described(who: Mapping[str, Any]) -> str:
    """An attempt by number, host and time; `who` is its record."""
    return f"attempt {who['attempt']} (host {who['host']}, process {who['process']}, began {who['began']})"


def exit_reason(error: BaseException) -> str:
    """`error` on one line, with its notes and those of the errors that it replaced, such as gloo's when a rank is gone."""
    owned = from_os_error(error) if isinstance(error, OSError) else error
    notes: list[str] = []
    inner: BaseException | None = error
    for _ in range(4):
        notes += getattr(inner, "__notes__", [])
        inner = inner and (inner.__cause__ or inner.__context__)
    first = str(owned).partition("\n")[0] or "no message"
    # Secrets such as keys in URLs are masked: the line ends up in the artifact.
    return masked(_one_line("; ".join([f"{type(owned).__name__}: {first}", *dict.fromkeys(notes)])))


class LivenessLock:
    """A file `.attempt-N` in the scratch, flocked while the attempt lives; the kernel releases the lock when it dies."""

    def __init__(self, scratch: Path, number: int, about: str) -> None:
        path = scratch / f".attempt-{number}"
        self._file = path.open("wb", buffering=0)
        self._about = about
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write("")
            os.fsync(self._file.fileno())
        except OSError:  # the disk is full already, or the file system has no locks
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def _write(self, exit_reason: str) -> None:
        line = f"{self._about}\n{exit_reason}\n".encode()[: _ROOM - 1]
        self._file.seek(0)
        if self._file.write(line.ljust(_ROOM - 1) + b"\n") < _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file.name))

    def leave(self, exit_reason: str) -> None:
        """Write the exit reason into the reserved space and release the lock."""
        try:
            if exit_reason:
                with suppress(OSError):  # must not replace the error that is being raised
                    self._write(exit_reason)
        finally:
            self._file.close()


def of_older(scratch: Path, number: int, note: Callable[[str], None]) -> None:
    """`note` how each attempt before `number` ended, one line each, and delete their files. The caller may run beside another
    new attempt."""
    for path in sorted(scratch.glob(".attempt-*"), key=_number):
        if _number(path) >= number:
            continue
        with suppress(FileNotFoundError):  # another new attempt handled this file first
            lives = _held(path)
            about, said = (*path.read_text(encoding="utf-8", errors="replace").split("\n"), "", "")[:2]
            note(ended(about, said.strip(), number, lives=lives))
            path.unlink()


def ended(about: str, said: str, number: int, *, lives: bool | None) -> str:
    """The line about an attempt that attempt `number` follows; `lives` is None if the store has no locks to tell by."""
    if lives:
        return f"{about} was still running when attempt {number} began: overtaken, nothing more of it is kept"
    if said:
        return f"{about} ended with {said}"
    if lives is None:
        how = "killed, cut off from its store, or overtaken and nothing more of it kept"
        return f"{about} had {NO_END} when attempt {number} began: {how}"
    return f"{about} {NO_END}: it was killed, or its machine stopped; attempt {number} continues from its last save"


def _number(path: Path) -> int:
    said = path.name.rpartition("-")[2]
    return int(said) if said.isdecimal() else 0


def _held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
