"""Where a training step goes: phases on the clock, operators by torch's profiler, on the recipe's model and random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from lehr.config.recipe import Recipe
from lehr.data.loader import Batch
from lehr.distributed.ranks import Ranks
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.optim.adamw import clip_
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError
from lehr.runtime.hardware import keep_freed_memory
from lehr.runtime.ports import NullTracker
from lehr.stages.pretrain import PretrainConfig
from lehr.train.checkpointing.saves import WholeSaves
from lehr.train.loop import Plan, train
from lehr.train.losses import cross_entropy, router_loss
from lehr.train.next_token import NextToken
from lehr.train.recorder import Recorder
from lehr.train.state import TrainState
from lehr.train.sync_debugging import Calls, watched

_WARM = 3
T = TypeVar("T")


@dataclass(frozen=True)
class StepProfile:
    """Milliseconds a step by phase, and by operator (self time; the largest first); tokens and FLOPs a second of a rank."""

    phases: dict[str, float]
    operators: dict[str, float]
    tokens_per_second: float
    flops_per_second: float


def _stage1(recipe: Recipe) -> PretrainConfig:
    """Raises UserError where the recipe begins with a model that exists."""
    for node in graph(recipe):
        if isinstance(node.config, PretrainConfig):
            return node.config
    raise UserError(f"recipe {recipe.name} pretrains nothing from scratch", remedy="profile one with a stage1")


def profile_step(recipe: Recipe, steps: int) -> StepProfile:
    """Run `steps` steps of stage 1's shape on one rank of the recipe and say where their time went."""
    s, precision = _stage1(recipe), recipe.pinned().precision
    torch.set_num_threads(recipe.parallel.threads)
    keep_freed_memory()
    state = TrainState.fresh(Transformer(recipe.model).initialise(0), s.optim, precision)
    rows = recipe.parallel.micro_batch or max(1, s.batch_size // recipe.parallel.processes)
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, recipe.model.vocab_size, (rows, s.sequence_length), generator=generator)
    clock = _Clock()
    flat = state.whole.flat

    def step() -> None:
        flat.zero()
        ce = clock("forward", lambda: cross_entropy(state.model, tokens_BT, tokens_BT, with_z=s.optim.z_loss > 0))
        loss = ce.nats + s.optim.z_loss * ce.z + router_loss(ce, recipe.model)
        clock("backward", loss.backward)
        clock("collect gradients", flat.collect)
        clock("clip", lambda: clip_(flat.grads, s.optim.clip_norm, ce.tokens))
        clock("update", lambda: state.optimizer.update(s.optim.lr))

    for _ in range(_WARM):
        step()
    clock.seconds.clear()
    for _ in range(steps):
        step()
    phases = {name: 1000 * total / steps for name, total in clock.seconds.items()}
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for _ in range(steps):
            step()
    found = {event.key: event.self_cpu_time_total / 1000 / steps for event in trace.key_averages()}
    operators = dict(sorted(found.items(), key=lambda item: -item[1]))
    rate = tokens_BT.numel() / (sum(phases.values()) / 1000)
    return StepProfile(phases, operators, rate, rate * flops_per_token(recipe.model, s.sequence_length))


class _RandomRows:
    """Stands for a loader: the same random tokens for every step."""

    def __init__(self, vocab_size: int, length: int) -> None:
        self.vocab_size, self.length = vocab_size, length

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch:
        """See Loader.rows."""
        rows = np.random.default_rng(0).integers(0, self.vocab_size, (-(-count // world), self.length + 1))
        return Batch(rows[:, :-1].copy(), rows[:, 1:].copy())


def profile_syncs(recipe: Recipe, steps: int) -> Calls:
    """Where the host waits in `steps` steps of the training loop itself, on one rank's rows of stage 1."""
    s, p = _stage1(recipe), recipe.parallel
    torch.set_num_threads(p.threads)
    state = TrainState.fresh(Transformer(recipe.model).initialise(0), s.optim, recipe.pinned().precision)
    phase = replace(s.phase(), batch_size=max(1, s.batch_size // p.processes), batch_ramp=None)
    objective = NextToken(state, _RandomRows(recipe.model.vocab_size, s.sequence_length), phase, p.micro_batch)
    recorder = Recorder("profile", None, NullTracker(), WholeSaves(Path(), Ranks()), watch=recipe.watch)

    def run(end: int) -> None:
        train(state, objective, Plan(end, phase.rate, phase.clip_norm, checkpoint_steps=end + 1), Ranks(), recorder)

    run(_WARM)
    with watched() as calls:
        run(_WARM + steps)
    return calls


class _Clock:
    """Adds up the seconds of named calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, call: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = call()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        return result
