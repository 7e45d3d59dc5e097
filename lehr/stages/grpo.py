"""GRPO with verifiable rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lehr.config.base import NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.optim import Optim
from lehr.config.posttraining import GrpoStep
from lehr.config.sampler import SamplerElsewhere
from lehr.config.schedule import StepSchedule
from lehr.data.reasoning import PREFIX
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import TrainingConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.chat import padded_tokens
from lehr.planning.work import PlanPlace, Work, tuning_work
from lehr.post.verifiers import check_args, verifier
from lehr.post.verifiers.sandbox import check_machine
from lehr.runtime.errors import UserError


class GrpoConfig(TrainingConfig):
    """See lehr.config.posttraining.GrpoStep; `batch_size` counts prompts."""

    families: list[str]
    optim: Optim
    schedule: StepSchedule
    steps: Positive
    batch_size: Positive
    max_length: NonNegative
    samples_per_prompt: Positive
    temperature: PositiveFloat
    max_new_tokens: Positive
    clip_low: PositiveFloat
    clip_high: PositiveFloat
    kl: NonNegativeFloat
    advantage_epsilon: NonNegativeFloat
    bonus: dict[str, float]
    rollout_epochs: Positive
    mini_batches: Positive
    seed: NonNegative
    sampler: SamplerElsewhere | None = None

    def described(self) -> dict[str, Any]:
        """Which engine answers counts, as each samples in its own way; where it is does not."""
        said = super().described()
        return {**said, "sampler": self.sampler.engine if self.sampler else ""}

    def uses(self) -> list[Callable[..., Any]]:
        return [verifier(name) for name in self.bonus if ":" in name]  # built-in ones are reached by the work's imports


def run(config: GrpoConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too, on training problems whose answers can be verified."""
    from lehr.post.prompts import grpo_objective
    from lehr.post.tuning import tune

    return tune(config, grpo_objective, inputs, attempt)


def expand(step: GrpoStep, place: StepContext) -> list[Node]:
    """One node. Raises UserError for an unknown chat family or verifier."""
    check_families(step.families, f"posttraining.{step.name}.families")
    for name in step.bonus:  # what is wrong is reported now, not when the stage runs
        try:
            check_args(name, {})
        except UserError as error:
            raise UserError(error.what, where=f"posttraining.{step.name}.bonus", remedy=error.remedy) from error
    if any(family.startswith(PREFIX) for family in step.families):
        check_machine("reasoning_gym")
    config = GrpoConfig(
        families=step.families, optim=step.optim, schedule=step.schedule, steps=step.total_steps,
        batch_size=step.batch_size, max_length=step.max_length, samples_per_prompt=step.samples_per_prompt,
        temperature=step.temperature, max_new_tokens=step.max_new_tokens, clip_low=step.clip_low, clip_high=step.clip_high,
        kl=step.kl, advantage_epsilon=step.advantage_epsilon, bonus=step.bonus,
        rollout_epochs=step.rollout_epochs, mini_batches=step.mini_batches,
        seed=place.seed(step.name), checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
        sampler=step.sampler,
    )  # fmt: skip
    return [Node(step.name, "grpo", config, {"parent": (place.parent,)})]


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens are whole samples with their padding, estimated from a sample of the conversations."""
    c: GrpoConfig = node.config  # type: ignore[assignment]
    rows = c.batch_size * c.samples_per_prompt // c.parallel.processes  # of one rank: each pads its own
    tokens = c.parallel.processes * padded_tokens(c.families, place.recipe_seed, rows)
    return tuning_work(node.name, "grpo", place, c, tokens)


SPEC = StageSpec(
    "grpo",
    GrpoConfig,
    {"parent": Role("checkpoint")},
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=lambda config, inputs: config.steps,
    expand=expand,
    plan=plan,
)
