"""The training loop of every stage, on one screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lehr import pulse, stop
from lehr.metrics import require
from lehr.train.collection import collect_at
from lehr.train.engine import Engine
from lehr.train.journal import Journal
from lehr.train.later import Pair, mean, stacked
from lehr.train.parallel import Ranks
from lehr.train.rewind import rewind
from lehr.train.state import TrainState


@dataclass
class Sums:
    """What one rank adds to a step: `loss` is a sum, to be divided once by the global `weight` (tokens, or pairs).

    `tokens` were processed; `extra` holds further (sum, count) pairs under the names the objective declares. Numbers may be
    tensors on the model's device: reading them would make the host wait.
    """

    loss: float | Tensor
    weight: float
    tokens: int
    extra: Mapping[str, Pair]

    def unsaid(self) -> Sums:
        """Zeros in their place, on the same devices: what a rank adds whose sums another one reports."""
        extra = {name: (_zero(total), _zero(count)) for name, (total, count) in self.extra.items()}
        return Sums(_zero(self.loss), 0.0, 0, extra)


def _zero(number: float | Tensor) -> float | Tensor:
    return torch.zeros_like(number) if isinstance(number, Tensor) else 0.0


class Objective(Protocol):
    """A stage's loss. `backward` runs this rank's share of global step `step` and leaves *summed* gradients behind."""

    extras: tuple[str, ...]

    def backward(self, step: int, ranks: Ranks) -> Sums: ...


@dataclass(frozen=True)
class Plan:
    """How long and at which rate: `rate(step, tokens)` is the learning rate of the update at that point, `clip_norm` the
    gradient norm's limit there."""

    steps: int
    rate: Callable[[int, int], float]
    clip_norm: Callable[[int, int], float]
    checkpoint_steps: int
    evaluate_steps: int = 0

    def owes_evaluation(self, state: TrainState) -> bool:
        """Whether the evaluation that belongs to the state's step is still to be made."""
        return self.evaluate_steps > 0 and state.step % self.evaluate_steps == 0 and state.evaluated < state.step


def train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, journal: Journal) -> TrainState:
    """Run from `state.step` to `plan.steps`. Every rank makes the same decisions from the same reduced sums.

    Raises Bug where the objective reports a metric that is declared nowhere, and Preempted after SIGTERM to any rank, once the
    running step is made and the state is saved.
    """
    require(objective.extras)
    try:
        return _train(state, objective, plan, ranks, journal)
    finally:
        pulse.pausing(state.step)


def _train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, journal: Journal) -> TrainState:
    engine = state.optimizer
    stopping = plan.owes_evaluation(state) and not journal.evaluate(state, ranks)
    while state.step < plan.steps and not stopping:
        collect_at(state.step, journal.watch.collect_steps)
        if state.rewinds.pass_over(state):  # batches that a rewind left out
            continue
        pulse.stepping(state.step)
        began = time.perf_counter()
        engine.zero()
        sums = objective.backward(state.step, ranks)
        # Gradients and scalars are summed over ranks, then divided once: world size changes no expectation.
        scalars = _reduce(sums, () if journal.later else objective.extras, engine, ranks)
        loss = scalars["loss"] / max(scalars["weight"], 1.0)
        grad_norm = engine.clip(max(scalars["weight"], 1.0), plan.clip_norm(state.step, state.tokens))
        lr = plan.rate(state.step, state.tokens)
        made = state.guard.admits(loss, grad_norm, not state.rewinds.armed)  # a non-finite or outlying step changes nothing
        state.rewinds.saw(state.step, made)
        if made:
            engine.update(lr)
        state.step += 1
        state.tokens += int(scalars["tokens"])
        journal.step(state, plan.steps, loss, grad_norm, lr, made, scalars, sums.extra, time.perf_counter() - began)
        pulse.pausing(state.step)
        if state.rewinds.due:
            rewind(state, journal, ranks)
            continue
        stopping = scalars["stop"] > 0
        if plan.owes_evaluation(state) and not stopping:
            stopping = not journal.evaluate(state, ranks)
        regular = state.step % plan.checkpoint_steps == 0 and state.rewinds.calm
        if stopping or (regular and state.step < plan.steps):
            journal.checkpoint(state, regular)
            if not stopping:
                ranks.gather(None)  # nobody's next step is timed while another rank waits for its disk
    if stopping:
        raise stop.preempted(journal.stage, state.step, plan.steps)
    return state


def _reduce(sums: Sums, extras: tuple[str, ...], engine: Engine, ranks: Ranks) -> dict[str, float]:
    """Sum gradients and scalars over ranks; extras come back as means, `stop` as how many ranks heard SIGTERM. The host waits
    for the device here, and for the gradients' norm."""
    pairs = [sums.extra.get(name, (0.0, 0.0)) for name in extras]
    scalars = stacked([sums.loss, sums.weight, sums.tokens, float(stop.asked()), *(x for pair in pairs for x in pair)])
    engine.sum_(scalars, ranks)
    values = scalars.tolist()
    out = dict(zip(("loss", "weight", "tokens", "stop"), values, strict=False))
    out |= {name: mean(*values[4 + 2 * i : 6 + 2 * i]) for i, name in enumerate(extras)}
    return out
