"""One run per folder at a time on this machine, whether `lehr run` or plain pyflyte started it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lehr.runtime.errors import UserError, from_os_error

_held: dict[Path, IO[bytes]] = {}


def hold(root: Path, name: str | Path = "") -> None:
    """Create `root` and lock it for this process, which may do so repeatedly; the lock ends with the process. Messages show
    `name` instead of `root`, if given. Two machines that use one object store are kept apart by the fence, stage by stage.

    Raises UserError if another process holds the lock, or if nothing can be written there.
    """
    if root in _held:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / ".lock").open("wb")
    except OSError as error:
        raise from_os_error(error, root) from error
    try:
        # flock, as the kernel releases it even after SIGKILL: a lock file's mere existence would outlive a killed run.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(
            "another lehr run is at work in this folder", where=name or root, remedy="wait for it, or choose another --out"
        ) from None
    _held[root] = file


@contextmanager
def held(root: Path, name: str | Path = "") -> Iterator[None]:
    """`hold`, and release the lock at the end."""
    hold(root, name)
    try:
        yield
    finally:
        _held.pop(root).close()
