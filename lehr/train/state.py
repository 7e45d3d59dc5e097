"""Everything that a training run must remember, in one place: what is not here does not matter after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lehr.config.optim import Optim
from lehr.config.training import Precision
from lehr.errors import Bug
from lehr.model.transformer import Transformer
from lehr.optim.adamw import AdamW, FlatParameters
from lehr.optim.guard import SpikeGuard
from lehr.train.engine import Engine
from lehr.train.rewind import Rewinds


@dataclass
class TrainState:
    """Model, optimiser, guard, and progress in `step` (updates attempted) and `tokens` (seen by this stage). `evaluated` is the
    last step whose evaluation on the way is written down, `rewinds` what was left out."""

    model: Transformer
    optimizer: Engine
    guard: SpikeGuard
    step: int = 0
    tokens: int = 0
    evaluated: int = 0
    rewinds: Rewinds = field(default_factory=lambda: Rewinds(None))

    @classmethod
    def fresh(cls, model: Transformer, optim: Optim, precision: Precision = "fp32") -> TrainState:
        flat = FlatParameters(model, optim, torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(model, AdamW(flat, optim), SpikeGuard(optim.guard), rewinds=Rewinds(optim.guard.rewind))

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
        """What every rank knows, whatever the layout: the guard, what was left out, and how far training is."""
        counts = {name: torch.tensor(getattr(self, name)) for name in ("step", "tokens", "evaluated")}
        return {**self.guard.state(), **self.rewinds.tensors(), **counts}

    def restore_progress(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what `progress` gave."""
        self.guard.restore(tensors)
        self.rewinds.restore(tensors)
        self.step, self.tokens, self.evaluated = (int(tensors[name]) for name in ("step", "tokens", "evaluated"))

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a resume file."""
        return {**self.whole.tensors(), **self.progress()}

    def restore(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy in what `tensors` gave. The guard is part of it here; a child stage starts with its own: on another mix,
        the parent's window would take the new level for spikes."""
        self.whole.restore(tensors, where)
        self.restore_progress(tensors)
