"""GRPO with verifiable rewards."""

from __future__ import annotations

from typing import Any

from lehr.config.base import NonNegativeFloat, Positive, PositiveFloat
from lehr.config.posttraining import GrpoStep
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import sft_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.stages.prompts import PromptsConfig, prompts_of
from lehr.stages.roll_outs import RollOutConfig


class GrpoConfig(RollOutConfig):
    """See lehr.config.posttraining.GrpoStep; `batch_size` counts prompts."""

    clip_low: PositiveFloat
    clip_high: PositiveFloat
    kl: NonNegativeFloat
    advantage_epsilon: NonNegativeFloat
    rollout_epochs: Positive
    mini_batches: Positive


def run(config: GrpoConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too, on training problems whose answers can be verified."""
    from lehr.post.prompts import grpo_objective
    from lehr.post.tuning import tune

    return tune(config, grpo_objective, inputs, attempt)


def expand(step: GrpoStep, place: StepContext) -> list[Node]:
    """The node of the prompts, if they are prepared, and that of the model. Raises UserError as `prompts_of` does."""
    rows = prompts_of(step, place)
    config = GrpoConfig(
        families=step.families, optim=step.optim, schedule=step.schedule, steps=step.total_steps,
        batch_size=step.batch_size, max_length=step.max_length, samples_per_prompt=step.samples_per_prompt,
        temperature=step.temperature, max_new_tokens=step.max_new_tokens, clip_low=step.clip_low, clip_high=step.clip_high,
        kl=step.kl, advantage_epsilon=step.advantage_epsilon, bonus=step.bonus,
        rollout_epochs=step.rollout_epochs, mini_batches=step.mini_batches,
        seed=place.seed(step.name), checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
        sampler=step.sampler, lora=step.lora,
    )  # fmt: skip
    inputs = {"parent": (place.parent,), **({"prompts": (rows[0].name,)} if rows else {})}
    return [*rows, Node(step.name, "grpo", config, inputs)]


def plan(node: Node, place: PlanPlace) -> Work:
    """See roll_out_work."""
    return roll_out_work(node, place)


def roll_out_work(node: Node, place: PlanPlace) -> Work:
    """Its tokens are whole samples, estimated from a sample of the conversations; supplied prompts are not known before they
    are read: a sample has at most the model's length."""
    c: Any = node.config
    rows = c.batch_size * c.samples_per_prompt // c.mini_batches
    families = list(c.families)
    if "prompts" in node.inputs:
        prepared: PromptsConfig = place.node(node.inputs["prompts"][0]).config  # type: ignore[assignment]
        families = [] if prepared.sources else list(prepared.amounts)
    if not families:
        return tuning_work(node.name, node.kind, place, c, rows * place.model.max_seq_len, "at most")
    return tuning_work(node.name, node.kind, place, c, rows * sft_tokens(dict.fromkeys(families, 1), place.recipe_seed))


SPEC = StageSpec(
    "grpo",
    GrpoConfig,
    {"parent": Role("checkpoint"), "prompts": Role("prompts", optional=True)},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=lambda config, inputs: config.steps,
    expand=expand,
    plan=plan,
)
