"""Reward models: Bradley-Terry on preference pairs, or regression on ratings by aspect."""

from __future__ import annotations

from typing import Any, Literal

from lehr.config.base import NonNegative, NonNegativeFloat, Positive
from lehr.config.chat import PreferencesSource
from lehr.config.lora import Lora
from lehr.config.optim import Optim
from lehr.config.posttraining import RewardModelStep
from lehr.config.schedule import StepSchedule
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.rewards.said import announce
from lehr.post.templates import resolved
from lehr.stages.contrast import contrast_node
from lehr.stages.preferences import pairs_node
from lehr.stages.supplied_preferences import SuppliedPreferencesConfig
from lehr.stages.supplied_ratings import SuppliedRatingsConfig


class RewardModelConfig(TrainingConfig):
    """See lehr.config.posttraining.RewardModelStep. `steps` 0: as many as `epochs` over the examples make. `aspects` are the
    weights of what is rated, in the head's order; none for Bradley-Terry."""

    loss: Literal["bradley-terry", "multi-aspect"]
    optim: Optim
    schedule: StepSchedule
    steps: NonNegative
    epochs: NonNegativeFloat
    batch_size: Positive
    max_length: NonNegative
    centre: NonNegativeFloat
    aspects: dict[str, float]
    seed: NonNegative
    lora: Lora | None = None


def run(config: RewardModelConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train a scalar head on the parent, and the parent with it."""
    from lehr.distributed.ranks import run_ranks
    from lehr.model.size import flops_per_token
    from lehr.post.rewards.training import Training, train_reward
    from lehr.train.checkpointing.checkpoint import load_architecture
    from lehr.train.fit import RankContext

    parent, pairs = inputs["parent"], inputs["pairs"].folder
    told = config.model_copy(update={"steps": _steps(config, inputs)})
    work = Training(told, RankContext.of(attempt, config.parallel, config.watch), parent.folder, pairs)
    found: dict[str, Any] = run_ranks(config.parallel.processes, config.parallel.threads, train_reward, work)
    tokens, model = found.pop("tokens"), load_architecture(parent)
    flops = flops_per_token(model, config.max_length or model.max_seq_len) * tokens
    return Outcome({"tokens": tokens, "reward": found}, tokens, flops, config.parallel.processes)


def _steps(config: RewardModelConfig, inputs: Inputs) -> int:
    from lehr.post.rewards.data import reward_steps

    return reward_steps(config, inputs["pairs"].folder)


def expand(step: RewardModelStep, place: StepContext) -> list[Node]:
    """The node of the examples, and that of the model trained on them; a contrast has no model of its own. Raises UserError for
    an unknown chat family."""
    pairs = _examples(step, place)
    if step.loss == "contrastive":
        return [*pairs, contrast_node(step, place, [node.name for node in pairs])]
    assert step.optim is not None
    config = RewardModelConfig(
        loss=step.loss, optim=step.optim, schedule=step.schedule, steps=step.total_steps, epochs=step.epochs or 1.0,
        batch_size=step.batch_size, max_length=step.max_length, centre=step.centre, aspects=step.weights,
        seed=place.seed(step.name), lora=step.lora, checkpoint_steps=step.checkpoint_steps, parallel=place.parallel,
        watch=place.watch,
    )  # fmt: skip
    return [*pairs, Node(step.name, "reward_model", config, {"parent": (place.parent,), "pairs": (pairs[0].name,)})]


def _examples(step: RewardModelStep, place: StepContext) -> list[Node]:
    """The node of the pairs or ratings; none for a contrast without any."""
    name = f"{step.name}-pairs"
    if step.pairs:
        return [pairs_node(name, step.pairs, place, f"posttraining.{step.name}.pairs")]
    if not step.examples:
        return []
    told: dict[str, Any] = {
        "amounts": step.examples, "sources": place.sources(step.examples, PreferencesSource), "samples": step.samples,
        "max_length": step.max_length or place.context_tokens, "seed": place.seed(step.name), "template": resolved(place.chat),
        **place.cleaning(),
    }  # fmt: skip
    if step.loss == "multi-aspect":
        return [Node(name, "supplied_ratings", SuppliedRatingsConfig(aspects=step.weights, **told), place.cleaned_with())]
    return [Node(name, "supplied_preferences", SuppliedPreferencesConfig(**told), place.cleaned_with())]


def plan(node: Node, place: PlanPlace) -> Work | None:
    """At most: examples are not known before they are read or sampled. A pair has two answers, each with its prompt."""
    c: RewardModelConfig = node.config  # type: ignore[assignment]
    length, sides = c.max_length or place.model.max_seq_len, 1 if c.aspects else 2
    return tuning_work(node.name, "reward_model", place, c, sides * c.batch_size * length, "at most") if c.steps else None


SPEC = StageSpec(
    "reward_model",
    RewardModelConfig,
    {"parent": Role("checkpoint"), "pairs": Role("preferences")},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=_steps,
    expand=expand,
    plan=plan,
    announce=announce,
)
