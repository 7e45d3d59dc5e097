"""Reading what a run's folder holds, which others may have put there: regular files of bounded size, and never an exception."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 16 << 20


def opened(path: Path) -> BinaryIO | None:
    """A regular file, open for reading; None where there is none. A pipe, which would wait for a writer, is none."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # the second: a NUL in the name
        return None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        return None
    return os.fdopen(number, "rb")


def small_json(path: Path) -> Any:
    """The JSON value of a file; None where there is none, where it is larger than MOST_BYTES, or damaged."""
    file = opened(path)
    if file is None:
        return None
    with file:
        try:
            raw = file.read(MOST_BYTES + 1)
            return json.loads(raw) if len(raw) <= MOST_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None


def locked(path: Path) -> bool:
    """Whether a process of this machine has an exclusive lock on a file. Asked of the kernel's list: trying the lock would keep
    a run from starting that asks for it in the same moment."""
    try:
        inode = str(path.stat().st_ino)
        with open("/proc/locks", encoding="ascii", errors="replace") as lines:
            held = [line.split() for line in lines if " FLOCK " in line]
    except (OSError, ValueError):
        return False
    return any(len(words) > 5 and words[3] == "WRITE" and words[5].rpartition(":")[2] == inode for words in held)
