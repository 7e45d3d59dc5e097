"""Uploading saves in the background: a snapshot of the scratch, and a thread that uploads the newest snapshot."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from lehr.runtime.ports import RESUME

Identity = tuple[int, int, int]


def identity(file: Path) -> Identity:
    """Distinguishes a file from any other that had its name: inode, size and modification time. Hard links share it."""
    said = file.stat()
    return said.st_ino, said.st_size, said.st_mtime_ns


def snapshot(scratch: Path, into: Path) -> None:
    """Fill the new folder `into` with the present files of `scratch`. Files under RESUME never change once written, so hard
    links suffice; the files beside it (log, cost) may grow, and are copied."""
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
    """Calls `copy` with the folders given to `hand`, one at a time, on a thread that ends when there is nothing to do. A folder
    that still waits is deleted when a newer one is handed over: only the newest state is worth uploading."""

    def __init__(self, copy: Callable[[Path], None]) -> None:
        self._copy, self._lock = copy, threading.Lock()
        self._waiting: Path | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def hand(self, folder: Path) -> None:
        """Schedule `folder` to be copied. Raises the error of an earlier copy."""
        self._raise()
        with self._lock:
            left, self._waiting = self._waiting, folder
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="keeper")
                self._thread.start()
        if left is not None:
            shutil.rmtree(left, ignore_errors=True)

    def flush(self) -> None:
        """Wait until everything is copied. Raises the error of a failed copy."""
        self._join()
        self._raise()

    def stop(self) -> None:
        """Wait until nothing is being copied. A folder that waits is dropped, and the error of a failed copy too: the stage is
        done, so its saves are no longer needed."""
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
            except BaseException as error:  # noqa: BLE001 (kept, and raised on the training thread by `_raise`)
                with self._lock:
                    self._failure = error
