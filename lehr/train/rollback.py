"""Going back: after several bad steps in a row the last good checkpoint takes over, and the batches that led there are left
out. PaLM's way (Chowdhery et al. 2022, section 5.1): from some 100 steps before the spike on, so that what caused it goes too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lehr.config.optim import Rewind

if TYPE_CHECKING:
    from lehr.distributed.ranks import Ranks
    from lehr.train.recorder import Journal
    from lehr.train.state import TrainState


@dataclass(frozen=True)
class Skipped:
    """Batches of steps `first` to `last` are left out. The schedule goes on as if they had been read: `tokens` were seen
    when `last` had been."""

    first: int
    last: int
    tokens: int


@dataclass
class Rewinds:
    """Part of the training state: what was left out so far, and the bad steps in a row that just passed.

    `first_bad` is the step that began them, `bad` their number; without a `config` there are no rewinds, and the guard is
    alone.
    """

    config: Rewind | None
    skipped: list[Skipped] = field(default_factory=list)
    first_bad: int = 0
    bad: int = 0

    @property
    def armed(self) -> bool:
        """Whether a rewind may still come. Then the guard learns nothing from what it refuses: that would let a run that has
        gone wrong pass for the new normal before it is taken back."""
        return self.config is not None and len(self.skipped) < self.config.limit

    @property
    def calm(self) -> bool:
        """Whether the state may be kept as one to go back to."""
        return not self.armed or self.bad == 0

    @property
    def due(self) -> bool:
        return self.armed and self.config is not None and self.bad >= self.config.after

    def saw(self, step: int, made: bool) -> None:
        """Count the step."""
        if made:
            self.bad = 0
        else:
            self.first_bad = self.first_bad if self.bad else step
            self.bad += 1

    def pass_over(self, state: TrainState) -> bool:
        """Move `state` past the batches that are left out, if it stands before some; whether it did."""
        for s in self.skipped:
            if s.first <= state.step <= s.last:
                state.step, state.tokens = s.last + 1, s.tokens
                return True
        return False

    def tensors(self) -> dict[str, Tensor]:
        rows = [[s.first, s.last, s.tokens] for s in self.skipped]
        return {
            "rewinds.skipped": torch.tensor(rows, dtype=torch.int64).view(-1, 3),
            "rewinds.bad": torch.tensor([self.first_bad, self.bad]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.skipped = [Skipped(*row) for row in tensors["rewinds.skipped"].tolist()]
        self.first_bad, self.bad = tensors["rewinds.bad"].tolist()


def rewind(state: TrainState, journal: Journal, ranks: Ranks) -> None:
    """Put the newest good checkpoint's content into `state`, with the batches of the bad steps, and of some before them, left
    out. A checkpoint is good once a step from it was: one that the first bad step began with is passed over.

    Where none can be read, training goes on without, and the rewind is used up.
    """
    config, first_bad, skipped = state.rewinds.config, state.rewinds.first_bad, state.rewinds.skipped
    came_from, tokens = state.step, state.tokens
    gone_back = journal.go_back(state, first_bad, ranks)  # which forgets what was left out since
    first = max(state.step, first_bad - (config.before if config else 0)) if gone_back else came_from
    state.rewinds = Rewinds(config, [*skipped, Skipped(first, came_from - 1, tokens)])
    journal.rewound(state, came_from, first, came_from - 1)
