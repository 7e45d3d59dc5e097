"""The saves of a stage whose ranks all hold the whole state: rank 0 writes them, every rank reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from lehr.distributed.multi_host import mirrored
from lehr.distributed.ranks import Ranks
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken
from lehr.train.checkpointing.resume_state import ResumeFiles, quiet
from lehr.train.checkpointing.retention import Retention
from lehr.train.state import TrainState

_TWO = Retention()


class WholeSaves:
    """ResumeFiles as an implementation of `lehr.train.checkpointing.saver.Saves`."""

    alone = True

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        fencing: FencingToken = ONLY_ATTEMPT,
        note: Callable[[str], None] = quiet,
        retention: Retention = _TWO,
    ) -> None:
        self.files, self.ranks = ResumeFiles(folder, fencing, note, retention), ranks

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None], regular: bool = True) -> None:
        """See Saves.save."""
        if self.ranks.first:
            self.files.save(state.step, state.tensors(), log_bytes, done, regular)

    def restore(self, state: TrainState, before: int | None = None) -> int | None:
        """See Saves.restore. Also deletes the temporary files of killed or superseded attempts."""
        if self.ranks.first:
            self.files.sweep()
        with mirrored(self.files.folder, self.ranks, self.files.fencing):
            return self._restore(state, before)

    def _restore(self, state: TrainState, before: int | None) -> int | None:
        if self._other_layouts():
            from lehr.distributed.sharding.restore import restore_any

            facts = restore_any(self.files.folder, state, self.ranks, before, self.files.note)
            return None if facts is None else int(facts["log_bytes"])
        newest = self.files.newest(before)
        if newest is None:
            return None
        state.restore(newest[0], str(self.files.folder))
        return newest[1]

    def forget_after(self, step: int) -> None:
        """See Saves.forget_after."""
        if not self._other_layouts():
            return self.files.forget_after(step)
        from lehr.distributed.sharding.restore import forget_after

        return forget_after(self.files.folder, step, self.files.fencing)

    def part(self, state: TrainState) -> dict[str, Tensor]:
        """See Saves.part: the whole state."""
        return state.tensors()

    def restore_part(self, state: TrainState, tensors: dict[str, Tensor]) -> None:
        """See Saves.restore_part."""
        state.restore(tensors, str(self.files.folder))

    def host_copy(self) -> dict[str, Tensor]:
        """See Saves.host_copy. Nothing on ranks that save nothing."""
        return self.files.host.tensors

    def newest_order(self) -> tuple[int, int] | None:
        """See Saves.newest_order."""
        if not self._other_layouts():
            return self.files.newest_order()
        from lehr.distributed.sharding.restore import newest_order

        return newest_order(self.files.folder)

    def _other_layouts(self) -> bool:
        """Whether there are saves from when this stage ran under a sharded layout."""
        return any(self.files.folder.glob("sharded-*"))

    def wait(self) -> None:
        """See Saves.wait."""
        self.files.wait()
