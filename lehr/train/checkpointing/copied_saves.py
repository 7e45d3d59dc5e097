"""Saves in the store, and between them copies in the memory of the machines: a restart takes whichever is newer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from lehr.artifacts.artifact import write_beside
from lehr.distributed.machines import Machines
from lehr.distributed.ranks import Ranks
from lehr.runtime.ports import FencingToken
from lehr.train.checkpointing.copy_files import CopyFolder, Generation, Owner
from lehr.train.checkpointing.copy_reader import CopyReader, Found
from lehr.train.checkpointing.host_copy import HostCopy
from lehr.train.checkpointing.memory_copies import LOG, CopyMaker, Crew, Job
from lehr.train.checkpointing.saver import Saves
from lehr.train.state import TrainState

FOLDER = "LEHR_MEMORY_COPIES"  # environment: a folder in memory that outlives this process; the pod template sets it


def copied(
    saves: Saves, ranks: Ranks, fencing: FencingToken, layout: str, log: Path | None, note: Callable[[str], None]
) -> CopiedSaves | None:
    """`saves` with copies in memory beside them, if every rank's environment names a folder for them. `log` is the stage's
    log, on rank 0. A collective: every rank calls it."""
    folder = os.environ.get(FOLDER, "")
    if not all(ranks.gather(bool(folder) and bool(fencing.work))):
        note(f"no copies in memory are made: {FOLDER} names no folder in memory on every machine")
        return None
    return CopiedSaves(saves, Crew(ranks, Machines.of(ranks), saves.alone), fencing, (Path(folder), layout, log), note)


class CopiedSaves:
    """See lehr.train.checkpointing.saver.Saves, of which `inner` is one."""

    def __init__(
        self,
        inner: Saves,
        crew: Crew,
        fencing: FencingToken,
        where: tuple[Path, str, Path | None],
        note: Callable[[str], None],
    ) -> None:
        base, layout, self.log = where
        self.inner, self.alone, self.crew, self.fencing, self.note = inner, inner.alone, crew, fencing, note
        self.folder = CopyFolder(base, Owner(fencing.work, layout, 1 if crew.whole else crew.ranks.world))
        self.maker, self.reader = CopyMaker(self.folder, crew, fencing, note), CopyReader(self.folder, crew, note)
        self._host, self._saved, self._borrowed = HostCopy(), -1, False

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None], regular: bool = True) -> None:
        """See Saves.save."""
        if self._borrowed:  # a copy may still be read from the memory that a save is about to overwrite
            self.maker.wait()
            self._borrowed = False
        self.inner.save(state, log_bytes, done, regular)
        self._saved = state.step

    def copy(self, state: TrainState, log_bytes: int) -> None:
        """Start making a copy of `state`. Training waits for the copy to host memory alone, and not for that if a save of the
        same step has just made it; it also waits for the copy before, should that not be made yet."""
        self.maker.wait()
        if not self.crew.keeps:
            return
        tensors = self.inner.part(state)
        held = self.inner.host_copy() if self._saved == state.step else {}
        there = {name: held[name] for name in tensors if name in held}
        self._borrowed = bool(there)
        own = self._host.stage({name: tensor for name, tensor in tensors.items() if name not in there})
        generation = Generation(len(state.rollbacks.skipped), state.step, self.fencing.number)
        self.maker.make(Job(generation, {**there, **own}, self.log, log_bytes))

    def restore(self, state: TrainState, before: int | None = None) -> int | None:
        """See Saves.restore. The newest of the copies that are whole over all machines and of the saves in the store; of
        equals the copy. A rollback goes to a save and forgets the copies, which are of what it leaves out."""
        if before is not None:
            self.forget()
            return self.inner.restore(state, before)
        found, stored = self.reader.newest(), self.crew.ranks.gather(self.inner.newest_order())[0]
        if found is not None and (stored is None or found.generation.order >= tuple(stored)):
            log_bytes = self._take(found, state)
            if log_bytes is not None:
                return log_bytes
            found = None
        log_bytes = self.inner.restore(state)
        if found is not None and found.generation.order > (len(state.rollbacks.skipped), state.step):
            newer = self._take(found, state)  # the store's newest save is damaged
            return log_bytes if newer is None else newer
        self.forget()
        return log_bytes

    def _take(self, found: Found, state: TrainState) -> int | None:
        """Restore that copy, on every rank or none; the log's length, as Saves.restore returns it."""
        tensors = self.reader.fetch(found)
        if tensors is None:
            return None
        log = tensors.pop(LOG, None)
        if not all(self.crew.ranks.gather(self.inner.part(state).keys() <= tensors.keys())):
            self.note(f"the copies in memory of step {found.generation.step} are of another state")
            return None
        self.inner.restore_part(state, tensors)
        if self.crew.machines.first:
            self.folder.clear(but=found.generation)
        self.note(f"the state of step {state.step} is from copies in memory")
        length = 0
        if self.log is not None and log is not None:  # rank 0, whose machine may have lost its log
            data, length = log.numpy().tobytes(), len(log)
            if not _begins_with(self.log, data):
                write_beside(self.log, lambda beside: beside.write_bytes(data))
        return int(self.crew.ranks.gather(length)[0])

    def forget(self) -> None:
        """Delete all copies. A collective: every rank calls it."""
        self.maker.wait()
        self.crew.ranks.gather(None)  # a barrier: none is being published on any rank ...
        if self.crew.machines.first:
            self.folder.clear()
        self.crew.ranks.gather(None)  # ... and none is left when a rank goes on

    def forget_after(self, step: int) -> None:
        """See Saves.forget_after."""
        self.inner.forget_after(step)

    def wait(self) -> None:
        """See Saves.wait."""
        try:
            self.inner.wait()
        finally:
            self.maker.close()

    def part(self, state: TrainState) -> dict[str, Tensor]:
        """See Saves.part."""
        return self.inner.part(state)

    def restore_part(self, state: TrainState, tensors: dict[str, Tensor]) -> None:
        """See Saves.restore_part."""
        self.inner.restore_part(state, tensors)

    def host_copy(self) -> dict[str, Tensor]:
        """See Saves.host_copy."""
        return self.inner.host_copy()

    def newest_order(self) -> tuple[int, int] | None:
        """See Saves.newest_order."""
        return self.inner.newest_order()


def _begins_with(path: Path, data: bytes) -> bool:
    """Whether the log is there: what follows in it tells the recorder which steps are made again."""
    try:
        with path.open("rb") as file:
            return file.read(len(data)) == data
    except OSError:
        return False
