"""Resume files of a stage in progress: complete or absent, hashed, the newest good one wins. Written beside the training."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from lehr.artifact import sha256_file, write_atomic
from lehr.tensors import read_tensors, save_tensors

_KEEP = 2


class ResumeFiles:
    """`state-STEP.safetensors` and its `state-STEP.json` {sha256, log_bytes}, written in that order, under `folder`.

    `save` copies the state into buffers that are kept, and a thread hashes, writes, flushes and renames: training waits for
    the copy alone. `log_bytes` is how long the stage's log was: a resumed stage cuts the log back to it, so no line stands
    twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(self, step: int, tensors: dict[str, Tensor], log_bytes: int, done: Callable[[int], None]) -> None:
        """Begin to write the state after `step`; `done` hears the file's size when it is complete, on the writing thread.

        Waits for the one before. Raises what that one failed with.
        """
        self.wait()
        for name, tensor in tensors.items():
            kept = self._buffers.get(name)
            if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                self._buffers[name] = tensor.detach().to("cpu", copy=True)
            else:
                kept.copy_(tensor)
        self._thread = threading.Thread(target=self._write, args=(step, log_bytes, done), name="resume-files")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written. Raises what writing failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, step: int, log_bytes: int, done: Callable[[int], None]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"state-{step:08d}.safetensors"
            beside = path.with_suffix(".tmp")
            save_tensors(self._buffers, beside)
            with beside.open("rb+") as f:
                os.fsync(f.fileno())
            os.replace(beside, path)
            write_atomic(path.with_suffix(".json"), json.dumps({"sha256": sha256_file(path), "log_bytes": log_bytes}))
            for old in sorted(self.folder.glob("state-*.json"))[:-_KEEP]:
                old.unlink()
                old.with_suffix(".safetensors").unlink(missing_ok=True)
            done(path.stat().st_size)
        except BaseException as error:  # noqa: BLE001 (it is raised where the training can hear it)
            self._failure = error

    def newest(self) -> tuple[dict[str, Tensor], int] | None:
        """(tensors, log_bytes) of the newest file whose hash is right, or None."""
        for record in sorted(self.folder.glob("state-*.json"), reverse=True):
            path = record.with_suffix(".safetensors")
            said = json.loads(record.read_text())
            if path.is_file() and sha256_file(path) == said["sha256"]:
                return read_tensors(path), int(said["log_bytes"])
        return None
