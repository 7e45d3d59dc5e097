"""What must survive a restart for rollbacks: which batches are left out, and the current run of bad steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lehr.config.optim import Rollback


@dataclass(frozen=True)
class Skipped:
    """Batches of steps `first` to `last` are left out. The schedule goes on as if they had been read: `tokens` is the count
    after `last`."""

    first: int
    last: int
    tokens: int


@dataclass
class RollbackState:
    """Part of the training state: the batches left out so far, and the current run of bad steps. `first_bad` is the step that
    began the run, `bad` its length; without a `config` there are no rollbacks and only the guard skips updates.
    """

    config: Rollback | None
    skipped: list[Skipped] = field(default_factory=list)
    first_bad: int = 0
    bad: int = 0

    @property
    def armed(self) -> bool:
        """Whether a rollback is still possible. The guard then learns nothing from values that it refuses: otherwise a
        diverging run would become its new normal before the rollback takes place."""
        return self.config is not None and len(self.skipped) < self.config.limit

    @property
    def calm(self) -> bool:
        """Whether a rollback may go back to the present state."""
        return not self.armed or self.bad == 0

    @property
    def due(self) -> bool:
        return self.armed and self.config is not None and self.bad >= self.config.after

    def saw(self, step: int, made: bool) -> None:
        """Count the step; `made`: its update was made."""
        if made:
            self.bad = 0
        else:
            self.first_bad = self.first_bad if self.bad else step
            self.bad += 1

    def after_skipped(self, step: int) -> tuple[int, int] | None:
        """If the batch of `step` is left out: the first step after those left out, and the tokens seen by then."""
        return next(((s.last + 1, s.tokens) for s in self.skipped if s.first <= step <= s.last), None)

    def tensors(self) -> dict[str, Tensor]:
        rows = [[s.first, s.last, s.tokens] for s in self.skipped]
        return {
            "rollback.skipped": torch.tensor(rows, dtype=torch.int64).view(-1, 3),
            "rollback.bad": torch.tensor([self.first_bad, self.bad]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.skipped = [Skipped(*row) for row in tensors["rollback.skipped"].tolist()]
        self.first_bad, self.bad = tensors["rollback.bad"].tolist()
