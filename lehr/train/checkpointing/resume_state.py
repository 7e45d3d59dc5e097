"""Resume files of a stage in progress: complete or absent, hashed, the newest good one wins. Written beside the training."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from lehr.artifacts.artifact import sha256_file, write_atomic
from lehr.artifacts.tensors import read_tensors, save_tensors
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken
from lehr.train.checkpointing.retention import Retention

_TWO = Retention()


def quiet(text: str) -> None:
    """Says nothing."""


class ResumeFiles:
    """`state-STEP.safetensors` and its `state-STEP.json` {sha256, log_bytes, regular}, written in that order, under `folder`.

    `save` copies the state into buffers that are kept, and a thread hashes, writes, flushes and renames: training waits for
    the copy alone. `log_bytes` is how long the stage's log was: a resumed stage cuts the log back to it, so no line stands
    twice. An attempt whose fencing token is outdated writes nothing that could be found. `regular` files come at the recipe's
    interval, whatever interrupts the training; only to those does a rollback go back. `retention` says which stay.
    """

    def __init__(
        self,
        folder: Path,
        fencing: FencingToken = ONLY_ATTEMPT,
        note: Callable[[str], None] = quiet,
        retention: Retention = _TWO,
    ) -> None:
        self.folder, self.fencing, self.note, self.retention = folder, fencing, note, retention
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(
        self, step: int, tensors: dict[str, Tensor], log_bytes: int, done: Callable[[int], None], regular: bool = True
    ) -> None:
        """Begin to write the state after `step`; `done` hears the file's size when it is complete, on the writing thread.

        Waits for the one before. Raises what that one failed with.
        """
        self.wait()
        self._buffers = {name: kept for name, kept in self._buffers.items() if name in tensors}  # a used-up roll-out is gone
        for name, tensor in tensors.items():
            kept = self._buffers.get(name)
            if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                self._buffers[name] = tensor.detach().to("cpu", copy=True)
            else:
                kept.copy_(tensor)
        self._thread = threading.Thread(target=self._write, args=(step, log_bytes, done, regular), name="resume-files")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written. Raises what writing failed with."""
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
            save_tensors(self._buffers, beside)
            with beside.open("rb+") as f:
                os.fsync(f.fileno())
            record = {"sha256": sha256_file(beside), "log_bytes": log_bytes, "regular": regular}
            with self.fencing.critical_section():
                os.replace(beside, path)
                write_atomic(path.with_suffix(".json"), json.dumps(record))
                self._drop_old()
                done(path.stat().st_size)
                self.fencing.upload()
        except BaseException as error:  # noqa: BLE001 (it is raised where the training can hear it)
            self._failure = error
        finally:
            beside.unlink(missing_ok=True)  # half a file would keep a full disk full

    def sweep(self) -> None:
        """Take away what killed or overtaken attempts were writing."""
        for half in self.folder.glob("*.tmp"):
            half.unlink(missing_ok=True)

    def _drop_old(self) -> None:
        records = {_step(record): record for record in self.folder.glob("state-*.json")}
        saves = [(step, bool((read_record(record) or {}).get("regular"))) for step, record in records.items()]
        for step in self.retention.old(saves):
            _remove(records[step])

    def forget_after(self, step: int) -> None:
        """Take away what was saved after `step`."""
        with self.fencing.critical_section():
            for record in self.folder.glob("state-*.json"):
                if _step(record) > step:
                    _remove(record)

    def newest(self, before: int | None = None) -> tuple[dict[str, Tensor], int] | None:
        """(tensors, log_bytes) of the newest file whose hash is right, or None: with `before`, of the regular ones that were
        saved before that step. Damaged ones are passed over and said."""
        for record in sorted(self.folder.glob("state-*.json"), reverse=True):
            path = record.with_suffix(".safetensors")
            said = read_record(record)
            if said and before is not None and (_step(record) >= before or not said["regular"]):
                continue
            if said and path.is_file() and sha256_file(path) == said["sha256"]:
                return read_tensors(path), int(said["log_bytes"])
            self.note(f"{path.name} is damaged and passed over: its hash differs from its record's")
        return None


def _step(record: Path) -> int:
    return int(record.stem.split("-")[1])


def _remove(record: Path) -> None:
    record.unlink(missing_ok=True)
    record.with_suffix(".safetensors").unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """{sha256, log_bytes, regular}, or None where the record itself is damaged."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and {"sha256", "log_bytes", "regular"} <= said.keys() else None
