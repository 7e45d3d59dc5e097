"""Copying saves away beside the training: a moment's picture of the scratch, and a thread that takes the newest one."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from lehr.runtime.ports import RESUME

Identity = tuple[int, int, int]


def identity(file: Path) -> Identity:
    """Tells a file from any other that stood under its name: number, size and time of its content. Links share it."""
    said = file.stat()
    return said.st_ino, said.st_size, said.st_mtime_ns


def snapshot(scratch: Path, into: Path) -> None:
    """What `scratch` holds now. Files under RESUME are never changed once they are there, so a link keeps them; those beside
    it (the log, the cost) may grow, and are copied."""
    into.mkdir()
    for file in scratch.iterdir():
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".tmp":
            shutil.copyfile(file, into / file.name)
    for file in (scratch / RESUME).rglob("*"):
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".tmp":
            target = into / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)


class AsyncUploader:
    """Calls `copy` with folders it is handed, one at a time, on a thread that lives while there is work. A folder that waits
    is replaced by a newer one, and removed: only the newest state is worth copying."""

    def __init__(self, copy: Callable[[Path], None]) -> None:
        self._copy, self._lock = copy, threading.Lock()
        self._waiting: Path | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def hand(self, folder: Path) -> None:
        """Have `folder` copied. Raises what an earlier copy failed with."""
        self._raise()
        with self._lock:
            left, self._waiting = self._waiting, folder
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="keeper")
                self._thread.start()
        if left is not None:
            shutil.rmtree(left, ignore_errors=True)

    def flush(self) -> None:
        """Return when everything is copied. Raises what copying failed with."""
        self._join()
        self._raise()

    def stop(self) -> None:
        """Return when nothing is being copied. What waits is left out, and a copy that failed is not missed: saves are of no
        more use."""
        with self._lock:
            left, self._waiting = self._waiting, None
        if left is not None:
            shutil.rmtree(left, ignore_errors=True)
        self._join()
        with self._lock:
            self._failure = None

    def _join(self) -> None:
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _raise(self) -> None:
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._lock:
                folder, self._waiting = self._waiting, None
                if folder is None:
                    self._thread = None
                    return
            try:
                self._copy(folder)
            except BaseException as error:  # noqa: BLE001 (it is raised where the training can hear it)
                with self._lock:
                    self._failure = error
