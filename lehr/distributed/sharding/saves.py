"""The saves of a stage whose state is sharded: written by all ranks in the background, readable under any layout."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import async_save

from lehr.distributed.host_paths import separate_folders
from lehr.distributed.multi_host import mirrored
from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.planning import SaveBlocks, as_saved
from lehr.distributed.sharding.rank_part import block_name, part_of, restore_part, slices_of
from lehr.distributed.sharding.restore import forget_after, newest_order, remove, restore_any, saves_in
from lehr.distributed.sharding.sharded_state import sharded_state
from lehr.distributed.sharding.slices import Chunk, Slices
from lehr.distributed.sharding.storage import MANIFEST, FolderWriter, Manifest
from lehr.runtime.errors import InfraError
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken
from lehr.train.checkpointing.resume_state import quiet
from lehr.train.checkpointing.retention import Retention
from lehr.train.state import TrainState

_TWO = Retention()


class Stager:
    """PyTorch's AsyncStager: copies this rank's part into reused host memory, after which training goes on."""

    should_synchronize_after_execute = False

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        out = {
            name: Slices(p.shape, [Chunk(b.offset, self._copy(name, b)) for b in p.chunks]) for name, p in state_dict.items()
        }
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the copies are asynchronous; the next step would overwrite their source
        return as_saved(out)

    def _copy(self, name: str, chunk: Chunk) -> Tensor:
        key = (name, chunk.offset)
        kept = self._kept.get(key)
        if kept is None or kept.shape != chunk.tensor.shape:
            kept = torch.empty(chunk.tensor.shape, dtype=chunk.tensor.dtype, pin_memory=chunk.tensor.is_cuda)
            self._kept[key] = kept
        return kept.copy_(chunk.tensor.detach(), non_blocking=True)

    def held(self) -> dict[str, Tensor]:
        """What was copied, by the names of a rank's part of the state."""
        return {block_name(name, offset): tensor for (name, offset), tensor in self._kept.items()}

    def synchronize_staging(self) -> None:
        """Nothing to do: `stage` returns only when everything is copied."""

    def close(self) -> None:
        """Nothing to do: the memory is freed with the stager."""


class ShardedSaves:
    """See lehr.train.checkpointing.saver.Saves. A save is a folder `sharded-STEP-ATTEMPT`, written by a thread that
    communicates over a gloo group of its own, so that its collectives cannot interleave with those of training."""

    alone = False

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        layout: str,
        fencing: FencingToken = ONLY_ATTEMPT,
        note: Callable[[str], None] = quiet,
        retention: Retention = _TWO,
    ) -> None:
        self.folder, self.ranks, self.layout, self.fencing, self.note = folder, ranks, layout, fencing, note
        self.retention = retention
        self._group, self._stager = dist.new_group(backend="gloo"), Stager()
        self._running: Future[Any] | None = None

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None], regular: bool = True) -> None:
        """See Saves.save. Overlapping attempts write into separate folders; only the newest attempt can complete one."""
        folder = self.folder / f"sharded-{state.step:08d}-{self.fencing.number}"
        self._begin(folder, state, log_bytes, lambda size: self._completed(size, done), regular)

    def write(self, folder: Path, state: TrainState) -> Manifest | None:
        """Write `state` into `folder` and wait until every rank has written. Returns None on ranks whose machine does not have
        all files. Raises the error of a failed write, or InfraError if the save cannot be read back."""
        self._begin(folder, state, 0, lambda size: None)
        self.wait()
        if separate_folders(self.fencing):
            if not self.ranks.first:
                return None
            self.fencing.bring(folder)
        manifest = Manifest.read(folder)
        if manifest is None:
            raise InfraError(f"{folder}: a save that was just written cannot be read; run the same command again")
        return manifest

    def _begin(
        self, folder: Path, state: TrainState, log_bytes: int, complete: Callable[[int], None], regular: bool = True
    ) -> None:
        self.wait()
        how = {"updates": sharded_state(state).updates, "layout": self.layout, "regular": regular}
        facts = {"step": state.step, "log_bytes": log_bytes, **how}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self._running = cast(
                "Future[Any]",
                async_save(
                    slices_of(state),
                    storage_writer=FolderWriter(folder, facts, complete, self.fencing),
                    planner=SaveBlocks(),
                    process_group=self._group,
                    async_stager=cast(Any, self._stager),
                ),
            )

    def _completed(self, size: int, done: Callable[[int], None]) -> None:
        """On rank 0, once a save is complete: delete old ones."""
        complete = [save for save in saves_in(self.folder) if save.sharded]
        old = self.retention.old((save.step, save.regular) for save in complete)
        for save in complete:
            if save.step in old:
                remove(save)
        for left in self.folder.glob("sharded-*"):  # incomplete: left by an attempt that was killed while writing
            if not (left / MANIFEST).is_file():
                shutil.rmtree(left)
        done(size)
        self.fencing.upload()

    def restore(self, state: TrainState, before: int | None = None) -> int | None:
        """See Saves.restore."""
        with mirrored(self.folder, self.ranks, self.fencing):
            facts = restore_any(self.folder, state, self.ranks, before, self.note)
        return None if facts is None else int(facts["log_bytes"])

    def forget_after(self, step: int) -> None:
        """See Saves.forget_after."""
        forget_after(self.folder, step, self.fencing)

    def part(self, state: TrainState) -> dict[str, Tensor]:
        """See Saves.part."""
        return part_of(state)

    def restore_part(self, state: TrainState, tensors: dict[str, Tensor]) -> None:
        """See Saves.restore_part."""
        restore_part(state, tensors)

    def host_copy(self) -> dict[str, Tensor]:
        """See Saves.host_copy."""
        return self._stager.held()

    def newest_order(self) -> tuple[int, int] | None:
        """See Saves.newest_order."""
        return newest_order(self.folder)

    def wait(self) -> None:
        """See Saves.wait."""
        running, self._running = self._running, None
        if running is None:
            return
        try:
            running.result()
        except CheckpointException as error:  # PyTorch wraps the error of each rank; the first is the cause
            raise next(iter(error.failures.values()))[0] from None
