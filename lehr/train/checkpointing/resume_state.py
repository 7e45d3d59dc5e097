"""Save files of an unfinished stage: complete or absent, hashed; the newest undamaged one is restored. Written by a thread."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lehr.artifacts.artifact import sha256_file, write_atomic
from lehr.artifacts.tensors import read_tensors, save_tensors
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken
from lehr.train.checkpointing.host_copy import HostCopy
from lehr.train.checkpointing.retention import Retention

_TWO = Retention()


def quiet(text: str) -> None:
    """Discard the message."""


class ResumeFiles:
    """`state-STEP.safetensors` and then its record `state-STEP.json` {sha256, log_bytes, regular} under `folder`.

    `save` copies the state into reused host buffers; a thread then hashes, writes, fsyncs and renames, so that training waits
    for the copy only. `log_bytes` is the length of the stage's log at the save: a resumed stage truncates the log to it, so
    that no step is logged twice. An attempt whose fencing token is outdated publishes nothing. `regular` saves are those at
    the recipe's interval, not those forced by a preemption; a rollback only goes back to regular ones. `retention` decides
    which saves are kept.
    """

    def __init__(
        self,
        folder: Path,
        fencing: FencingToken = ONLY_ATTEMPT,
        note: Callable[[str], None] = quiet,
        retention: Retention = _TWO,
    ) -> None:
        self.folder, self.fencing, self.note, self.retention = folder, fencing, note, retention
        self.host = HostCopy()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(
        self, step: int, tensors: dict[str, Tensor], log_bytes: int, done: Callable[[int], None], regular: bool = True
    ) -> None:
        """Start writing the state after `step`; the writing thread calls `done` with the file's size once it is complete.

        Waits for the previous save first. Raises the error with which that one failed.
        """
        self.wait()
        self.host.stage(tensors)
        self._thread = threading.Thread(target=self._write, args=(step, log_bytes, done, regular), name="resume-files")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises the error with which the last save failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, step: int, log_bytes: int, done: Callable[[int], None], regular: bool) -> None:
        path = self.folder / f"state-{step:08d}.safetensors"
        beside = path.with_suffix(f".{self.fencing.number}.tmp")
        try:
            self.fencing.check()
            self.folder.mkdir(parents=True, exist_ok=True)
            # The temporary name holds the attempt's number: an outdated attempt that is still writing cannot mix its bytes in.
            save_tensors(self.host.tensors, beside)
            # fsync before the rename: after a power loss the final name must not point to data that never reached the disk.
            with beside.open("rb+") as f:
                os.fsync(f.fileno())
            record = {"sha256": sha256_file(beside), "log_bytes": log_bytes, "regular": regular}
            with self.fencing.critical_section():
                # Record last: `newest` goes by records, so weights without one are never read. Both renames are inside the
                # critical section, which a newer attempt cannot enter at the same time.
                os.replace(beside, path)
                write_atomic(path.with_suffix(".json"), json.dumps(record))
                self._drop_old()
                done(path.stat().st_size)
                self.fencing.upload()
        except BaseException as error:  # noqa: BLE001 (kept, and raised on the training thread by `wait`)
            self._failure = error
        finally:
            beside.unlink(missing_ok=True)  # a partial file would keep a full disk full

    def sweep(self) -> None:
        """Delete the temporary files of attempts that were killed or superseded."""
        for half in self.folder.glob("*.tmp"):
            half.unlink(missing_ok=True)

    def _drop_old(self) -> None:
        records = {_step(record): record for record in self.folder.glob("state-*.json")}
        saves = [(step, bool((read_record(record) or {}).get("regular"))) for step, record in records.items()]
        for step in self.retention.old(saves):
            _remove(records[step])

    def forget_after(self, step: int) -> None:
        """Delete the saves made after `step`."""
        with self.fencing.critical_section():
            for record in self.folder.glob("state-*.json"):
                if _step(record) > step:
                    _remove(record)

    def newest(self, before: int | None = None) -> tuple[dict[str, Tensor], int] | None:
        """(tensors, log_bytes) of the newest save whose hash is right, or None if there is none; with `before`, of the newest
        regular one made before that step. Damaged saves are skipped with a note."""
        for record in sorted(self.folder.glob("state-*.json"), reverse=True):
            path = record.with_suffix(".safetensors")
            said = read_record(record)
            if said and before is not None and (_step(record) >= before or not said["regular"]):
                continue
            if said and path.is_file() and sha256_file(path) == said["sha256"]:
                return read_tensors(path), int(said["log_bytes"])
            self.note(f"{path.name} is damaged and passed over: its hash differs from its record's")
        return None

    def newest_order(self) -> tuple[int, int] | None:
        """(rollbacks, step) of the newest save, which may be damaged."""
        found = sorted(self.folder.glob("state-*.json"))
        if not found:
            return None
        return rollbacks_in(found[-1].with_suffix(".safetensors")), _step(found[-1])


def rollbacks_in(path: Path) -> int:
    """How often the training whose state is in this file had gone back; 0 if the file cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return int(file.get_slice("rollback.skipped").get_shape()[0])
    except (SafetensorError, OSError):
        return 0


def _step(record: Path) -> int:
    return int(record.stem.split("-")[1])


def _remove(record: Path) -> None:
    record.unlink(missing_ok=True)
    record.with_suffix(".safetensors").unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """{sha256, log_bytes, regular}, or None if the record itself is damaged."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and {"sha256", "log_bytes", "regular"} <= said.keys() else None
