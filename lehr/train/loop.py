"""The training loop of every stage, on one screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from lehr import pulse
from lehr.optim.adamw import clip_
from lehr.train.journal import Journal
from lehr.train.parallel import Ranks
from lehr.train.state import TrainState


@dataclass
class Sums:
    """What one rank adds to a step: `loss` is a sum, to be divided once by the global `weight` (tokens, or pairs).

    `tokens` were processed; `extra` holds further (sum, count) pairs under the names the objective declares.
    """

    loss: float
    weight: float
    tokens: int
    extra: dict[str, tuple[float, float]]


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


def train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, journal: Journal) -> TrainState:
    """Run from `state.step` to `plan.steps`. Every rank makes the same decisions from the same reduced sums."""
    try:
        return _train(state, objective, plan, ranks, journal)
    finally:
        pulse.pausing(state.step)


def _train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, journal: Journal) -> TrainState:
    flat = state.optimizer.flat
    while state.step < plan.steps:
        pulse.stepping(state.step)
        began = time.perf_counter()
        flat.grads.zero_()
        sums = objective.backward(state.step, ranks)
        flat.collect()
        # Gradients and scalars are summed over ranks, then divided once: world size changes no expectation.
        scalars = _reduce(sums, objective.extras, flat.grads, ranks)
        flat.grads.div_(max(scalars["weight"], 1.0))
        loss = scalars["loss"] / max(scalars["weight"], 1.0)
        grad_norm = clip_(flat.grads, plan.clip_norm(state.step, state.tokens))
        lr = plan.rate(state.step, state.tokens)
        made = state.guard.admits(loss, grad_norm)  # a non-finite or outlying step changes nothing
        if made:
            state.optimizer.update(lr)
        state.step += 1
        state.tokens += int(scalars["tokens"])
        journal.step(state, plan.steps, loss, grad_norm, lr, made, scalars, time.perf_counter() - began)
        pulse.pausing(state.step)
        if plan.evaluate_steps and state.step % plan.evaluate_steps == 0:
            journal.evaluate(state, ranks)
        if state.step % plan.checkpoint_steps == 0 and state.step < plan.steps:
            journal.checkpoint(state)
    return state


def _reduce(sums: Sums, extras: tuple[str, ...], grads: torch.Tensor, ranks: Ranks) -> dict[str, float]:
    """Sum gradients in place and scalars over ranks; extras come back as means."""
    pairs = [sums.extra.get(name, (0.0, 0.0)) for name in extras]
    scalars = torch.tensor([sums.loss, sums.weight, sums.tokens, *(x for pair in pairs for x in pair)], dtype=torch.float64)
    ranks.sum_(grads)
    ranks.sum_(scalars)
    values = scalars.tolist()
    out = {"loss": values[0], "weight": values[1], "tokens": values[2]}
    for i, name in enumerate(extras):
        total, count = values[3 + 2 * i], values[4 + 2 * i]
        out[name] = total / count if count else float("nan")
    return out
