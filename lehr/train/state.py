"""Everything that a training run must remember, in one place: what is not here does not matter after a restart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.config.recipe import Precision
from lehr.config.stages import Optim
from lehr.errors import Bug
from lehr.model.transformer import Transformer
from lehr.optim.adamw import AdamW, FlatParameters
from lehr.optim.guard import SpikeGuard
from lehr.train.engine import Engine


@dataclass
class TrainState:
    """Model, optimiser, guard, and progress in `step` (updates attempted) and `tokens` (seen by this stage). `evaluated` is the
    last step whose evaluation on the way is written down."""

    model: Transformer
    optimizer: Engine
    guard: SpikeGuard
    step: int = 0
    tokens: int = 0
    evaluated: int = 0

    @classmethod
    def fresh(cls, model: Transformer, optim: Optim, precision: Precision = "fp32") -> TrainState:
        flat = FlatParameters(model, optim, torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(model, AdamW(flat, optim), SpikeGuard(optim.guard))

    @property
    def whole(self) -> AdamW:
        """The engine of a rank that holds all of the state. Raises Bug under a sharded layout."""
        if not isinstance(self.optimizer, AdamW):
            raise Bug(f"{type(self.optimizer).__name__} holds a part of the state, and all of it was asked for")
        return self.optimizer

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights by name, whatever precision the model computes in."""
        return self.whole.flat.masters()

    def progress(self) -> dict[str, Tensor]:
        """What every rank knows, whatever the layout: the guard and how far training is."""
        return {**self.guard.state(), **{name: torch.tensor(getattr(self, name)) for name in ("step", "tokens", "evaluated")}}

    def restore_progress(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what `progress` gave."""
        self.guard.restore(tensors)
        self.step, self.tokens, self.evaluated = (int(tensors[name]) for name in ("step", "tokens", "evaluated"))

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a resume file."""
        return {**self.whole.tensors(), **self.progress()}

    def restore(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy in what `tensors` gave. The guard is part of it here; a child stage starts with its own: on another mix,
        the parent's window would take the new level for spikes."""
        self.whole.restore(tensors, where)
        self.restore_progress(tensors)
