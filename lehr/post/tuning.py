"""A post-training step on ranks: load the parent, train it under the step's objective, write a chat checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lehr.artifacts.artifact import Artifact
from lehr.config.lora import Lora
from lehr.config.optim import Optim
from lehr.config.parallel import Parallel
from lehr.config.schedule import StepSchedule
from lehr.config.training import Watch
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.lora import adapt
from lehr.model.size import flops_per_token
from lehr.optim.schedule import by_steps
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome
from lehr.post.growth import take_negative, take_template
from lehr.runtime import seeds
from lehr.runtime.errors import Bug
from lehr.train.checkpointing.checkpoint import Loaded, load_architecture, load_checkpoint, save_checkpoint
from lehr.train.fit import RankContext, fit
from lehr.train.loop import Objective, Pace, Plan
from lehr.train.state import TrainState


class Tuned(Protocol):
    """The settings that every step's configuration has."""

    parallel: Parallel
    watch: Watch
    optim: Optim
    schedule: StepSchedule
    steps: int
    max_length: int
    checkpoint_steps: int
    seed: int
    lora: Lora | None


@dataclass(frozen=True)
class Tuning:
    """What every rank is given. `data` are folders with the step's data, by role: conversations, pairs, shards; `several`
    those of roles with many. `objective` is a module-level function, so that it can be pickled."""

    config: Any
    context: RankContext
    parent: Path
    data: Mapping[str, Path]
    objective: Callable[[Setup], Objective]
    several: Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Setup:
    """What a rank makes the objective from: the step's own `config`, the model in training, and the folders of its data."""

    config: Any
    context: RankContext
    ranks: Ranks
    loaded: Loaded
    state: TrainState
    data: Mapping[str, Path]
    several: Mapping[str, Sequence[Path]]

    def folder(self, role: str) -> Path:
        """The folder of the step's data of that role. Raises Bug if the step has none."""
        if role not in self.data:
            raise Bug(f"{self.context.name} was given no {role}")
        return self.data[role]


def tune(config: Tuned, objective: Callable[[Setup], Objective], inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the input `parent` on the configuration's ranks, with the other inputs as data. Raises UserError if it is not a
    language model's checkpoint."""
    context, parent = RankContext.of(attempt, config.parallel, config.watch), inputs["parent"]
    data = {role: artifact.folder for role, artifact in inputs.roles() if role != "parent"}
    several = {role: [a.folder for a in inputs.many(role)] for role in ("rewards",)}
    work = Tuning(config, context, parent.folder, data, objective, several)
    tokens = run_ranks(config.parallel.processes, config.parallel.threads, _tune_on_rank, work)
    model = load_architecture(parent)
    flops = flops_per_token(model, config.max_length or model.max_seq_len) * tokens
    return Outcome({"tokens": tokens}, tokens, flops, config.parallel.processes)


def _tune_on_rank(ranks: Ranks, work: Tuning) -> int:
    parent, c = Artifact.open(work.parent, verify=False), work.config
    loaded = _loaded(parent, c)
    loaded.model.to(own_device(ranks))
    if c.lora:
        adapt(loaded.model, c.lora, seeds.derive(c.seed, "adapters"))
    # Always in fp32: preferences and roll-outs compare log-probabilities, for which bf16 logits are too coarse, and on a CPU
    # rows of varying lengths gain nothing from bf16.
    state = TrainState.fresh(loaded.model, c.optim)
    objective = work.objective(Setup(c, work.context, ranks, loaded, state, work.data, work.several))
    plan = Plan(
        c.steps,
        lambda step, _tokens: by_steps(c.schedule, c.optim.lr, step, c.steps),
        lambda _step, _tokens: c.optim.clip_norm,
        c.checkpoint_steps,
        models=dict.fromkeys(state.further, _pace(c)),
    )
    fit(work.context, ranks, state, objective, plan)
    if ranks.first:
        save_checkpoint(work.context.out, loaded.architecture, state.weights(), loaded.tokenizer, chat=True)
    return state.tokens


def _pace(c: Any) -> Pace:
    """Of a model trained beside the main one: the same schedule, from a peak of its own where the step names one."""
    peak = getattr(c, "value_lr", 0.0) or c.optim.lr
    return Pace(lambda step, _tokens: by_steps(c.schedule, peak, step, c.steps), lambda *_: c.optim.clip_norm)


def _loaded(parent: Artifact, config: Any) -> Loaded:
    """The parent; under a step's `template`, with that and with rows for the tokens that it brings, and with the negative token
    where the step needs one."""
    loaded = load_checkpoint(parent)
    if getattr(config, "template", ""):
        loaded = take_template(loaded, config.template)
    return take_negative(loaded) if getattr(config, "negative_token", False) else loaded
