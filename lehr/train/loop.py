"""The training loop of every stage, on one screen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.runtime import heartbeat, preemption
from lehr.runtime.errors import Bug, diverged
from lehr.runtime.metrics import require
from lehr.train import step_times
from lehr.train.deferred_metrics import Pair, mean, stacked
from lehr.train.engine import Engine
from lehr.train.garbage_collection import collect_at
from lehr.train.recorder import Recorder, StepRecord
from lehr.train.rollback import rollback
from lehr.train.state import MAIN, TrainState

LOST_STEPS = 100  # consecutive steps without a finite loss or gradient: too many for bad batches to be the cause


@dataclass
class Sums:
    """What one rank contributes to a step: `loss` is a sum, to be divided once by the global `weight` (tokens, or pairs).

    `tokens` counts the tokens processed; `extra` holds further (sum, count) pairs under the names that the objective declares.
    `models` holds (loss, weight) of each model trained beside the main one, by name. Numbers may be tensors on the model's
    device, since reading them would make the host wait. `data_seconds` is how long the rank waited for its batch to be read and
    assembled; NaN if that is not measured.
    """

    loss: float | Tensor
    weight: float
    tokens: int
    extra: Mapping[str, Pair]
    models: Mapping[str, Pair] = field(default_factory=dict)
    data_seconds: float = math.nan

    def unsaid(self) -> Sums:
        """The same fields and devices filled with zeros, for a rank whose sums another rank reports; `data_seconds` is kept."""
        return Sums(_zero(self.loss), 0.0, 0, _zeros(self.extra), _zeros(self.models), self.data_seconds)


def _zeros(pairs: Mapping[str, Pair]) -> Mapping[str, Pair]:
    return {name: (_zero(total), _zero(count)) for name, (total, count) in pairs.items()}


def _zero(number: float | Tensor) -> float | Tensor:
    return torch.zeros_like(number) if isinstance(number, Tensor) else 0.0


class Objective(Protocol):
    """A stage's loss. `backward` runs this rank's share of global step `step` and accumulates *summed* gradients in every
    model that is trained."""

    extras: tuple[str, ...]

    def backward(self, step: int, ranks: Ranks) -> Sums: ...


@dataclass(frozen=True)
class Pace:
    """`rate(step, tokens)` is a model's learning rate for the update at that point, `clip_norm` its gradient norm's limit."""

    rate: Callable[[int, int], float]
    clip_norm: Callable[[int, int], float]


@dataclass(frozen=True)
class Plan:
    """Number of steps, learning rate and clipping of the main model, and in `models` those of each model trained beside it."""

    steps: int
    rate: Callable[[int, int], float]
    clip_norm: Callable[[int, int], float]
    checkpoint_steps: int
    evaluate_steps: int = 0
    models: Mapping[str, Pace] = field(default_factory=dict)

    def owes_evaluation(self, state: TrainState) -> bool:
        """Whether the evaluation that is due at the state's step has not been made yet (SIGTERM can interrupt it)."""
        return self.evaluate_steps > 0 and state.step % self.evaluate_steps == 0 and state.evaluated < state.step


@dataclass(frozen=True)
class Measured:
    """One model's part of a step, the same on every rank: its mean loss, its gradient norm before clipping, and the learning
    rate of its update."""

    loss: float
    grad_norm: float
    lr: float

    def named(self, name: str) -> dict[str, float]:
        """The values under the keys of the log."""
        return {f"{name}_loss": self.loss, f"{name}_grad_norm": self.grad_norm, f"{name}_learning_rate": self.lr}


def train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, recorder: Recorder) -> TrainState:
    """Run from `state.step` to `plan.steps`. Every rank makes the same decisions, since all decide from the same reduced sums.

    Raises UserError if training diverged, Bug if the objective reports a metric that is not declared, and Preempted
    after SIGTERM or SIGINT to any rank, once the running step is finished and the state is saved.
    """
    require(objective.extras)
    if plan.models.keys() != state.further.keys():
        raise Bug(f"the plan has a pace for {[*plan.models]}, but beside the main model {[*state.further]} are trained")
    try:
        return _train(state, objective, plan, ranks, recorder)
    finally:
        heartbeat.pausing(state.step)


def _train(state: TrainState, objective: Objective, plan: Plan, ranks: Ranks, recorder: Recorder) -> TrainState:
    stopping = plan.owes_evaluation(state) and not recorder.evaluate(state, ranks)
    times = step_times.measure(next(iter(state.models.values())).model.cos.device)
    lost = 0  # consecutive steps without a finite loss or gradient norm
    while state.step < plan.steps and not stopping:
        collect_at(state.step, recorder.watch.collect_steps)
        if (behind := state.rollbacks.after_skipped(state.step)) is not None:  # a rollback left out the batches from here
            state.step, state.tokens = behind
            continue
        heartbeat.stepping(state.step)
        began = time.perf_counter()
        times.begin()
        for trained in state.models.values():
            trained.optimizer.zero()
        with times.part(step_times.FORWARD):
            sums = objective.backward(state.step, ranks)
        computed = time.perf_counter() - began
        # Summed over ranks, then divided once by the global weight: the result does not depend on the number of ranks.
        with times.part(step_times.COMMUNICATION):
            scalars = _reduce(sums, () if recorder.deferred else objective.extras, state.optimizer, ranks, computed)
        with times.part(step_times.OPTIMIZER):
            own = _measure(state, MAIN, scalars["loss"], scalars["weight"], plan)
            others = _reduce_others(state, sums, plan, ranks)
            made = _update(state, {MAIN: own, **others})
        times.end()
        state.step += 1
        state.tokens += int(scalars["tokens"])
        seconds = time.perf_counter() - began
        scalars |= {f"{name}_seconds": value for name, value in times.take().items() if name in step_times.NAMES}
        log = {key: value for name, its in others.items() for key, value in its.named(name).items()}
        record = StepRecord(own.loss, own.grad_norm, own.lr, made, seconds, log)
        recorder.step(state, plan.steps, record, scalars, sums.extra)
        heartbeat.pausing(state.step)
        lost = 0 if math.isfinite(own.loss) and math.isfinite(own.grad_norm) else lost + 1
        if state.rollbacks.due:
            rollback(state, recorder, ranks)
            lost = 0
            continue
        if lost == LOST_STEPS:
            raise diverged(f"the last {lost} of {state.step} steps of {recorder.stage} had no finite loss or gradient")
        stopping = scalars["stop"] > 0
        if plan.owes_evaluation(state) and not stopping:
            stopping = not recorder.evaluate(state, ranks)
        regular = state.step % plan.checkpoint_steps == 0 and state.rollbacks.calm
        if stopping or (regular and state.step < plan.steps):
            recorder.checkpoint(state, regular)
            if not stopping:
                ranks.gather(None)  # a barrier: otherwise the next step's time would include rank 0's wait for its disk
        if not stopping and state.step < plan.steps:
            recorder.copy(state)
    if stopping:
        raise preemption.preempted(recorder.stage, state.step, plan.steps)
    return state


def _measure(state: TrainState, name: str, loss: float, weight: float, pace: Plan | Pace) -> Measured:
    """Divide and clip the summed gradients of model `name`; `loss` is a sum too."""
    weight = weight or 1.0  # a batch whose instances are all masked has weight 0; its gradients are 0 as well
    grad_norm = state.models[name].optimizer.clip(weight, pace.clip_norm(state.step, state.tokens))
    return Measured(loss / weight, grad_norm, pace.rate(state.step, state.tokens))


def _reduce_others(state: TrainState, sums: Sums, plan: Plan, ranks: Ranks) -> dict[str, Measured]:
    """The same for the models trained beside the main one. The host waits twice for each: for its sums and for its norm."""
    out = {}
    for name, trained in state.further.items():
        pair = stacked([*sums.models[name]])
        trained.optimizer.sum_(pair, ranks)
        loss, weight = pair.tolist()
        out[name] = _measure(state, name, loss, weight, plan.models[name])
    return out


def _update(state: TrainState, measured: Mapping[str, Measured]) -> bool:
    """Update all models if every guard admits its model's loss and gradient norm, otherwise none: a value that is not finite
    or stands out, of whichever model, skips the step. Returns whether the updates were made."""
    learn = not state.rollbacks.armed
    # A list, not a generator: `all` would stop at the first refusal, but each guard must see every step.
    admits = [state.models[name].guard.admits(its.loss, its.grad_norm, learn) for name, its in measured.items()]
    made = all(admits)
    state.rollbacks.saw(state.step, made)
    if made:
        for name, its in measured.items():
            state.models[name].optimizer.update(its.lr)
    return made


def _reduce(sums: Sums, extras: tuple[str, ...], engine: Engine, ranks: Ranks, computed: float) -> dict[str, float]:
    """Sum gradients and scalars over ranks; extras and `data_seconds` are returned as means, `stop` as the number of ranks
    that got SIGTERM, and of the seconds for which each rank has `computed` which rank's are the most. The host waits for the
    device here, and once more for the gradients' norm."""
    pairs = [sums.extra.get(name, (0.0, 0.0)) for name in extras]
    # `stop` travels with the sums: all ranks then stop after the same step without a collective of its own.
    own = {"loss": sums.loss, "weight": sums.weight, "tokens": sums.tokens, "stop": float(preemption.asked())}
    own["data_seconds"] = sums.data_seconds / ranks.world
    scalars = stacked([*own.values(), *(x for pair in pairs for x in pair)])
    count = len(scalars)
    if ranks.world > 1:
        scalars = torch.cat([scalars, _at_own_place(computed, ranks).to(scalars.device, non_blocking=True)])
    engine.sum_(scalars, ranks)
    values = scalars.tolist()
    out = dict(zip(own, values, strict=False))
    out |= {name: mean(*values[len(own) + 2 * i :][:2]) for i, name in enumerate(extras)}
    return out | _stragglers(values[count:])


def _at_own_place(seconds: float, ranks: Ranks) -> Tensor:
    """Zeros but for this rank's own number: the sum over ranks holds everybody's."""
    found = torch.zeros(ranks.world, dtype=torch.float64)
    found[ranks.rank] = seconds
    return found


def _stragglers(seconds: list[float]) -> dict[str, float]:
    """The rank that computed longest before it met the others, and how many times as long as the middle one. On CUDA these are
    the host's times: they show a slow host, not a slow device, which the ranks' wait for each other hides."""
    middle = sorted(seconds)[(len(seconds) - 1) // 2] if seconds else 0.0
    if middle <= 0.0:
        return {}
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    return {"slowest_rank": float(slowest), "straggler_ratio": seconds[slowest] / middle}
