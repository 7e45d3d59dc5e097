"""PPO, with a value model, on verifiable rewards and reward models."""

from __future__ import annotations

from typing import Literal

from lehr.config.base import Fraction, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.posttraining import PpoStep
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.work import PlanPlace, Work
from lehr.stages.grpo import roll_out_work
from lehr.stages.prompts import prompts_of
from lehr.stages.rewards import RewardConfig, rewards_for
from lehr.stages.roll_outs import RollOutConfig


class PpoConfig(RollOutConfig):
    """See lehr.config.posttraining.PpoStep; `batch_size` counts prompts, `rewards` are of its inputs `rewards`."""

    value_lr: NonNegativeFloat
    correct_reward: float
    wrong_reward: float
    rewards: list[RewardConfig]
    normalised_rewards: bool
    no_eos_reward: float | None
    gamma: Fraction
    gae_lambda: Fraction
    clip: PositiveFloat
    value_clip: NonNegativeFloat
    value_coefficient: PositiveFloat
    whitened_advantages: bool
    kl: NonNegativeFloat
    kl_estimator: Literal["k1", "k3"]
    kl_target: NonNegativeFloat
    kl_horizon: Positive
    rollout_epochs: Positive
    mini_batches: Positive


def run(config: PpoConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too, and a value model beside it, which is not kept."""
    from lehr.post.ppo_setup import ppo_objective
    from lehr.post.tuning import tune

    return tune(config, ppo_objective, inputs, attempt)


def expand(step: PpoStep, place: StepContext) -> list[Node]:
    """The node of the prompts, if they are prepared, and that of the model. Raises UserError as `prompts_of` does."""
    rows = prompts_of(step, place)
    rewards, checkpoints = rewards_for(step.reward_models, place)
    config = PpoConfig(
        families=step.families, optim=step.optim, schedule=step.schedule, steps=step.total_steps, batch_size=step.batch_size,
        max_length=step.max_length, value_lr=step.value_lr, correct_reward=step.correct_reward,
        wrong_reward=step.wrong_reward, bonus=step.bonus, rewards=rewards, normalised_rewards=step.normalised_rewards,
        no_eos_reward=step.no_eos_reward, samples_per_prompt=step.samples_per_prompt, temperature=step.temperature,
        max_new_tokens=step.max_new_tokens, gamma=step.gamma, gae_lambda=step.gae_lambda, clip=step.clip,
        value_clip=step.value_clip, value_coefficient=step.value_coefficient, whitened_advantages=step.whitened_advantages,
        kl=step.kl, kl_estimator=step.kl_estimator, kl_target=step.kl_target, kl_horizon=step.kl_horizon,
        rollout_epochs=step.ppo_epochs, mini_batches=step.mini_batches, seed=place.seed(step.name), lora=step.lora,
        sampler=step.sampler, checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
    )  # fmt: skip
    inputs = {"parent": (place.parent,), "prompts": tuple(node.name for node in rows)}
    inputs |= {"value": place.reward(step.value).checkpoints if step.value else ()}
    inputs |= {"rewards": checkpoints}
    return [*rows, Node(step.name, "ppo", config, {role: names for role, names in inputs.items() if names})]


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens are whole samples with their padding; sampling, reference and value passes are not counted."""
    return roll_out_work(node, place)


SPEC = StageSpec(
    "ppo",
    PpoConfig,
    {
        "parent": Role("checkpoint"),
        "prompts": Role("prompts", optional=True),
        "value": Role("checkpoint", optional=True),
        "rewards": Role("checkpoint", many=True, optional=True),
    },
    "checkpoint",
    "ranked",
    "post-training",
    run,
    total_steps=lambda config, inputs: config.steps,
    expand=expand,
    plan=plan,
)
