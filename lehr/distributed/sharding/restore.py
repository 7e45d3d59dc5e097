"""Reading the newest undamaged save under any layout, whichever layout wrote it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from lehr.artifacts.artifact import sha256_file
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.planning import load
from lehr.distributed.sharding.sharded_state import KINDS, ShardedState, fill_from_flat, flat_order, sharded_state
from lehr.distributed.sharding.slices import Slices
from lehr.distributed.sharding.storage import MANIFEST, Manifest
from lehr.runtime.ports import FencingToken
from lehr.train.checkpointing.resume_state import quiet, read_record, rollbacks_in
from lehr.train.state import TrainState

PROGRESS = "progress."


@dataclass(frozen=True)
class Save:
    """A save of either kind: `path` is a folder with a manifest, or the record of a flat file."""

    step: int
    path: Path

    @property
    def sharded(self) -> bool:
        return self.path.is_dir()

    @property
    def regular(self) -> bool:
        """Whether it was made at the recipe's interval. False if its record cannot be read."""
        if self.sharded:
            manifest = Manifest.read(self.path)
            return manifest is not None and bool(manifest.facts["regular"])
        return bool((read_record(self.path) or {}).get("regular"))

    def intact(self, rank: int, world: int) -> bool:
        """Whether this rank's share of its files has the recorded hashes."""
        if self.sharded:
            manifest = Manifest.read(self.path)
            return manifest is not None and manifest.intact(rank, world)
        file, said = self.path.with_suffix(".safetensors"), read_record(self.path)
        return rank > 0 or (said is not None and file.is_file() and sha256_file(file) == said["sha256"])


def saves_in(folder: Path) -> list[Save]:
    """Complete saves of both kinds, the newest first; of one step the sharded one first."""
    found = [*(p.parent for p in folder.glob(f"sharded-*/{MANIFEST}")), *folder.glob("state-*.json")]
    return sorted((Save(int(p.stem.split("-")[1]), p) for p in found), key=lambda s: (s.step, s.sharded), reverse=True)


def newest_order(folder: Path) -> tuple[int, int] | None:
    """See lehr.train.checkpointing.saver.Saves."""
    for save in saves_in(folder):
        if not save.sharded:
            return rollbacks_in(save.path.with_suffix(".safetensors")), save.step
        manifest = Manifest.read(save.path)
        skipped = manifest.tensors.get(f"{PROGRESS}rollback.skipped") if manifest is not None else None
        return (int(skipped["shape"][0]) if skipped is not None else 0), save.step
    return None


def restore_any(
    folder: Path, state: TrainState, ranks: Ranks, before: int | None = None, note: Callable[[str], None] = quiet
) -> dict[str, Any] | None:
    """Copy the newest save whose hashes are right into `state`, whichever layout wrote it; returns its facts (`log_bytes`,
    `layout`). With `before`, the newest regular one of an earlier step. Every rank checks a share of the files, and all ranks
    restore the same save. Damaged saves are skipped with a note. A collective: every rank calls it."""
    # Rank 0's list decides: a shared file system may show different files to different ranks.
    for step, name in ranks.gather([(save.step, save.path.name) for save in saves_in(folder)])[0]:
        save = Save(step, folder / name)
        if before is not None and (save.step >= before or not ranks.gather(save.regular)[0]):
            continue
        if not all(ranks.gather(save.intact(ranks.rank, ranks.world))):
            note(f"{save.path.stem} is damaged and passed over: its hashes differ from its record's")
            continue
        engine = sharded_state(state)
        facts = _read_sharded(save, state, engine) if save.sharded else _read_flat(save, state, engine)
        engine.publish()
        return facts
    return None


def remove(save: Save) -> None:
    """Delete `save`, its manifest or record first: a kill in between leaves no save that looks complete."""
    if save.sharded:
        (save.path / MANIFEST).unlink()
        shutil.rmtree(save.path)
    else:
        save.path.unlink()
        save.path.with_suffix(".safetensors").unlink(missing_ok=True)


def forget_after(folder: Path, step: int, fencing: FencingToken) -> None:
    """Delete the saves of both kinds made after `step`."""
    with fencing.critical_section():
        for save in saves_in(folder):
            if save.step > step:
                remove(save)


def _read_sharded(save: Save, state: TrainState, engine: ShardedState) -> dict[str, Any]:
    manifest = Manifest.read(save.path)
    assert manifest is not None
    progress = {name: manifest.empty(name) for name in manifest.tensors if name.startswith(PROGRESS)}
    load(manifest, {**engine.slices(), **{name: Slices.whole(t) for name, t in progress.items()}})
    state.restore_progress({name.removeprefix(PROGRESS): t for name, t in progress.items()})
    engine.updates = int(manifest.facts["updates"])
    return manifest.facts


def _read_flat(save: Save, state: TrainState, engine: ShardedState) -> dict[str, Any]:
    path = save.path.with_suffix(".safetensors")
    fill_from_flat(engine, path, KINDS, flat_order(state.model.config, engine.config))
    with safe_open(path, "pt") as file:
        kept = [name for name in file.keys() if name not in (*KINDS, "updates")]  # noqa: SIM118
        state.restore_progress({name: file.get_tensor(name) for name in kept})
    said: dict[str, Any] = json.loads(save.path.read_text(encoding="utf-8"))
    return said
