"""The saves of a stage whose ranks all hold the whole state: rank 0 writes resume files, every rank reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lehr.train.parallel import Ranks
from lehr.train.resume import ResumeFiles
from lehr.train.state import TrainState


class WholeSaves:
    """ResumeFiles behind the seam of lehr.train.engine.Saves."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.files, self.ranks = ResumeFiles(folder), ranks

    def save(self, state: TrainState, log_bytes: int, done: Callable[[int], None]) -> None:
        """See Saves.save."""
        if self.ranks.first:
            self.files.save(state.step, state.tensors(), log_bytes, done)

    def restore(self, state: TrainState) -> int | None:
        """See Saves.restore."""
        if any(self.files.folder.glob("sharded-*")):  # of a time when this stage ran under another layout
            from lehr.train.sharded.restore import restore_any

            facts = restore_any(self.files.folder, state, self.ranks)
            return None if facts is None else int(facts["log_bytes"])
        newest = self.files.newest()
        if newest is None:
            return None
        state.restore(newest[0], str(self.files.folder))
        return newest[1]

    def wait(self) -> None:
        """See Saves.wait."""
        self.files.wait()
