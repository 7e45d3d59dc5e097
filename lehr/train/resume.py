"""Resume files of a stage in progress: complete or absent, hashed, the newest good one wins."""

from __future__ import annotations

import json
import os
from pathlib import Path

from torch import Tensor

from lehr.artifact import sha256_file, write_atomic
from lehr.tensors import read_tensors, save_tensors

_KEEP = 2


class ResumeFiles:
    """`state-STEP.safetensors` and its `state-STEP.json` {sha256, log_bytes}, written in that order, under `folder`.

    `log_bytes` is how long the stage's log was: a resumed stage cuts the log back to it, so no line stands twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: dict[str, Tensor], log_bytes: int) -> int:
        """Write the state after `step`; returns the file's size in bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"state-{step:08d}.safetensors"
        beside = path.with_suffix(".tmp")
        save_tensors(tensors, beside)
        with beside.open("rb+") as f:
            os.fsync(f.fileno())
        os.replace(beside, path)
        write_atomic(path.with_suffix(".json"), json.dumps({"sha256": sha256_file(path), "log_bytes": log_bytes}))
        for old in sorted(self.folder.glob("state-*.json"))[:-_KEEP]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return path.stat().st_size

    def newest(self) -> tuple[dict[str, Tensor], int] | None:
        """(tensors, log_bytes) of the newest file whose hash is right, or None."""
        for record in sorted(self.folder.glob("state-*.json"), reverse=True):
            path = record.with_suffix(".safetensors")
            said = json.loads(record.read_text())
            if path.is_file() and sha256_file(path) == said["sha256"]:
                return read_tensors(path), int(said["log_bytes"])
        return None
