"""Everything that a training run must remember, in one place: what is not here does not matter after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lehr.config.recipe import Precision
from lehr.config.stages import Optim
from lehr.errors import UserError
from lehr.model.transformer import Transformer
from lehr.optim.adamw import AdamW, FlatParameters
from lehr.optim.guard import SpikeGuard
from lehr.train.rewind import Rewinds


@dataclass
class TrainState:
    """Model, optimiser, guard, and progress in `step` (updates attempted) and `tokens` (seen by this stage). `evaluated` is the
    last step whose evaluation on the way is written down, `rewinds` what was left out."""

    model: Transformer
    optimizer: AdamW
    guard: SpikeGuard
    step: int = 0
    tokens: int = 0
    evaluated: int = 0
    rewinds: Rewinds = field(default_factory=lambda: Rewinds(None))

    @classmethod
    def fresh(cls, model: Transformer, optim: Optim, precision: Precision = "fp32") -> TrainState:
        flat = FlatParameters(model, optim, torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(model, AdamW(flat, optim), SpikeGuard(optim.guard), rewinds=Rewinds(optim.guard.rewind))

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights by name, whatever precision the model computes in."""
        return self.optimizer.flat.masters()

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """What a child stage inherits beside the weights (mid-training continues the optimiser: OLMo 2 section 4)."""
        return {
            "first": self.optimizer.first,
            "second": self.optimizer.second,
            "updates": torch.tensor(self.optimizer.updates),
        }

    def load_optimizer(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy inherited optimiser state in. Raises UserError when it belongs to another model.

        The guard is not inherited: on another mix, the parent's window would take the new level for spikes.
        """
        if tensors["first"].shape != self.optimizer.first.shape:
            raise UserError("this optimiser state belongs to another model", where=where, remedy="use its own checkpoint")
        self.optimizer.first.copy_(tensors["first"])
        self.optimizer.second.copy_(tensors["second"])
        self.optimizer.updates = int(tensors["updates"])

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a resume file."""
        progress = {name: torch.tensor(getattr(self, name)) for name in ("step", "tokens", "evaluated")}
        how_far = {**progress, **self.guard.state(), **self.rewinds.tensors()}
        return {"values": self.optimizer.flat.values, **self.optimizer_tensors(), **how_far}

    def restore(self, tensors: dict[str, Tensor], where: str) -> None:
        """Copy in, never alias: kernels may sum in another order at another memory alignment."""
        self.optimizer.flat.values.copy_(tensors["values"])
        self.optimizer.flat.publish()
        self.load_optimizer(tensors, where)
        self.guard.restore(tensors)
        self.rewinds.restore(tensors)
        self.step, self.tokens, self.evaluated = (int(tensors[name]) for name in ("step", "tokens", "evaluated"))
