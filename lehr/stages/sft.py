"""Supervised fine-tuning."""

from __future__ import annotations

from lehr.config.base import Config, NonNegative, Positive
from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.posttraining import SftStep
from lehr.config.schedule import StepSchedule
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import sft_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.templates import resolved
from lehr.runtime.errors import UserError


class ReplayConfig(Config):
    """`rows` windows of pretraining text in each batch, of `sequence_length` tokens."""

    mix: Mix
    rows: Positive
    sequence_length: Positive


class SftConfig(TrainingConfig):
    """Loss on the assistant's tokens only. `examples`: chat family -> number of generated conversations; `max_length` 0 is the
    model's own length; `template` is what lehr.post.templates.resolved made of the recipe's."""

    examples: dict[str, Positive]
    optim: Optim
    schedule: StepSchedule
    steps: Positive
    batch_size: Positive
    max_length: NonNegative
    replay: ReplayConfig | None
    seed: NonNegative
    template: str = ""


def run(config: SftConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent on conversations."""
    from lehr.post.conversations import sft_objective
    from lehr.post.tuning import tune

    return tune(config, sft_objective, inputs.get("shards"), inputs, attempt)


def expand(step: SftStep, place: StepContext) -> list[Node]:
    """One node. Raises UserError for an unknown chat family, for replay without a known sequence length, and for a file
    that is no chat template."""
    check_families(step.examples, f"posttraining.{step.name}.examples")
    replay = None
    if step.replay_rows:
        if not place.window_tokens:
            key = f"posttraining.{step.name}.replay_rows"
            raise UserError(f"{key}: its base does not record its sequence length", remedy="leave replay_rows out")
        replay = ReplayConfig(mix=place.mixes[step.replay_mix], rows=step.replay_rows, sequence_length=place.window_tokens)
    config = SftConfig(
        examples=step.examples, optim=step.optim, schedule=step.schedule, steps=step.total_steps, batch_size=step.batch_size,
        max_length=step.max_length, replay=replay, seed=place.seed(step.name), checkpoint_steps=step.checkpoint_steps,
        parallel=place.parallel, watch=place.watch, template=resolved(place.chat),
    )  # fmt: skip
    inputs = {"parent": (place.parent,), **({"shards": ("shards",)} if replay else {})}
    return [Node(step.name, "sft", config, inputs)]


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens are estimated from a sample of the conversations."""
    c: SftConfig = node.config  # type: ignore[assignment]
    world = c.parallel.processes  # each rank pads its own rows
    replayed = c.replay.rows * c.replay.sequence_length if c.replay else 0
    return tuning_work(
        node.name, "sft", place, c, world * sft_tokens(c.examples, place.recipe_seed, c.batch_size // world) + replayed
    )


SPEC = StageSpec(
    "sft",
    SftConfig,
    {"parent": Role("checkpoint"), "shards": Role("shards", optional=True)},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=lambda config, inputs: config.steps,
    expand=expand,
    plan=plan,
)
