"""The shared configuration of stages that compute with a model."""

from __future__ import annotations

from typing import Any, ClassVar

from lehr.config.base import Positive
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.config.training import Compile, Precision, Watch
from lehr.pipeline.spec import StageConfig


class RankedConfig(StageConfig):
    """A stage that runs on ranks. The number of ranks affects the result: each samples with a seed of its own."""

    parallel: Parallel


class TrainingConfig(RankedConfig):
    """A stage that trains. How often it saves and logs does not affect the result."""

    UNHASHED: ClassVar[frozenset[str]] = frozenset({"watch", "checkpoint_steps"})

    checkpoint_steps: Positive
    watch: Watch

    @property
    def goes_back(self) -> bool:
        """Whether training may roll back to an earlier save: the result then depends on when saves are made."""
        optim: Optim | None = getattr(self, "optim", None)
        return optim is not None and optim.guard.rollback is not None

    def described(self) -> dict[str, Any]:
        saves = {"checkpoint_steps": self.checkpoint_steps} if self.goes_back else {}
        return {**super().described(), **saves}


class PretrainingConfig(TrainingConfig):
    """Next-token training, under any layout."""

    LAYOUT: ClassVar[frozenset[str]] = frozenset({"parallel", "compile"})
    # What is scored during training goes into the log and never into weights.
    UNHASHED: ClassVar[frozenset[str]] = frozenset({"watch", "checkpoint_steps", "in_loop_steps", "evaluation_seed"})

    precision: Precision
    compile: Compile
    in_loop_steps: int  # interval of scoring development prose during training; 0: never
    evaluation_seed: int
