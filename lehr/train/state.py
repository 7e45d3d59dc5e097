"""The whole state of a training run in one place: anything else may be lost at a restart without changing the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from lehr.config.optim import Optim
from lehr.config.training import Precision
from lehr.model.lora import adapted, plain_weights
from lehr.model.transformer import Backbone, Transformer
from lehr.optim.adamw import AdamW, FlatParameters
from lehr.optim.guard import SpikeGuard
from lehr.runtime.errors import Bug
from lehr.train.engine import Engine
from lehr.train.rollback_state import RollbackState

MAIN = "model"  # the model of which the stage makes a checkpoint; most stages train no other
_MODELS, _ROLLOUT, _CARRIED = "models.", "rollout.", "carried."  # prefixes of their tensors' names in a save
M = TypeVar("M", bound=Backbone)


class Held(Protocol):
    """Tensors by name that a save holds and whose meaning only their owner knows."""

    def tensors(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Restored:
    """Held tensors as read from a save; the objective that made the roll-out interprets them."""

    held: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        return self.held


@dataclass
class Trained:
    """A trained model, the engine that holds its parameters, gradients and optimiser state, and its guard."""

    model: Backbone
    optimizer: Engine
    guard: SpikeGuard

    @classmethod
    def fresh(cls, model: Backbone, optim: Optim, precision: Precision = "fp32") -> Trained:
        flat = FlatParameters(model, optim, torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(model, AdamW(flat, optim), SpikeGuard(optim.guard))

    @property
    def whole(self) -> AdamW:
        """The engine of a rank that holds the whole state. Raises Bug under a sharded layout."""
        if not isinstance(self.optimizer, AdamW):
            raise Bug(f"{type(self.optimizer).__name__} holds only a part of the state, but the whole state was requested")
        return self.optimizer

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights by name, whatever precision the model computes in; adapters merged."""
        return plain_weights(self.model) if adapted(self.model) else self.whole.flat.masters()


@dataclass
class TrainState:
    """The trained models by name, and progress in `step` (updates attempted) and `tokens` (seen by this stage).

    `evaluated` is the last step whose evaluation is logged, `rollbacks` the batches left out.
    `frozen` models (reference, reward) are not saved, since they come from artifacts. `rollout` is a roll-out some of whose
    updates are still to be made, the same on every rank; a save holds it only then. `carried` are a few numbers that an
    objective carries from step to step (an adaptive coefficient, say), also the same on every rank.
    """

    models: dict[str, Trained]
    step: int = 0
    tokens: int = 0
    evaluated: int = 0
    rollbacks: RollbackState = field(default_factory=lambda: RollbackState(None))
    frozen: dict[str, Backbone] = field(default_factory=dict)
    rollout: Held | None = None
    carried: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, model: Backbone, optim: Optim, precision: Precision = "fp32") -> TrainState:
        return cls({MAIN: Trained.fresh(model, optim, precision)}, rollbacks=RollbackState(optim.guard.rollback))

    @property
    def model(self) -> Transformer:
        """The main model. Use `named` for one with a scalar head."""
        return cast(Transformer, self.models[MAIN].model)

    @property
    def optimizer(self) -> Engine:
        """The main model's engine."""
        return self.models[MAIN].optimizer

    @property
    def guard(self) -> SpikeGuard:
        """The main model's guard."""
        return self.models[MAIN].guard

    @property
    def whole(self) -> AdamW:
        """The main model's whole engine; see Trained.whole."""
        return self.models[MAIN].whole

    @property
    def further(self) -> dict[str, Trained]:
        """The models trained beside the main one."""
        return {name: trained for name, trained in self.models.items() if name != MAIN}

    def named(self, name: str, kind: type[M]) -> M:
        """The model of that name and class, trained or frozen. Raises Bug if there is none."""
        model = self.models[name].model if name in self.models else self.frozen.get(name)
        if not isinstance(model, kind):
            raise Bug(f"no {kind.__name__} is named {name!r} in the training state, only {model!r:.60}")
        return model

    def weights(self) -> dict[str, Tensor]:
        """The main model's weights; see Trained.weights."""
        return self.models[MAIN].weights()

    def progress(self) -> dict[str, Tensor]:
        """The part of the state that every rank holds under any layout: guard, batches left out, counters, a roll-out with
        updates still to be made, and carried numbers."""
        counts = {name: torch.tensor(getattr(self, name)) for name in ("step", "tokens", "evaluated")}
        rollout = {} if self.rollout is None else _with(_ROLLOUT, self.rollout.tensors())
        return {**self.guard.state(), **self.rollbacks.tensors(), **counts, **rollout, **_with(_CARRIED, self.carried)}

    def restore_progress(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `progress`."""
        self.guard.restore(tensors)
        self.rollbacks.restore(tensors)
        self.step, self.tokens, self.evaluated = (int(tensors[name]) for name in ("step", "tokens", "evaluated"))
        rollout = _without(_ROLLOUT, tensors)
        self.rollout = Restored(rollout) if rollout else None
        self.carried = _without(_CARRIED, tensors)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a resume file. The main model's tensors have no prefix."""
        out = {**self.whole.tensors(), **self.progress()}
        for name, trained in self.further.items():
            out |= _with(f"{_MODELS}{name}.", {**trained.whole.tensors(), **trained.guard.state()})
        return out

    def restore(self, tensors: dict[str, Tensor], where: str) -> None:
        """The inverse of `tensors`. It restores the guard too; a child stage starts with a fresh guard instead, because on
        another mix the parent's window would take the new loss level for a spike."""
        self.whole.restore(tensors, where)
        self.restore_progress(tensors)
        for name, trained in self.further.items():
            own = _without(f"{_MODELS}{name}.", tensors)
            trained.whole.restore(own, where)
            trained.guard.restore(own)


def _with(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
