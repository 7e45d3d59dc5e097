"""BRAIn: the posterior of a model under rewards, learned from an earlier policy's answers."""

from __future__ import annotations

from lehr.config.base import Positive, PositiveFloat
from lehr.config.posttraining import BrainStep
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.planning.work import PlanPlace, Work
from lehr.stages.grpo import roll_out_work
from lehr.stages.prompts import prompts_of
from lehr.stages.rewards import RewardConfig, rewards_for
from lehr.stages.roll_outs import RollOutConfig


class BrainConfig(RollOutConfig):
    """See lehr.config.posttraining.BrainStep; `batch_size` counts prompts, `rewards` are of its inputs `rewards`."""

    refresh_steps: Positive
    beta: PositiveFloat
    baseline: bool
    correct_reward: float
    wrong_reward: float
    rewards: list[RewardConfig]
    normalised_rewards: bool
    no_eos_reward: float | None

    @property
    def rollout_epochs(self) -> int:
        """Every answer is learned from once."""
        return 1

    @property
    def mini_batches(self) -> int:
        """A step learns from all of its own prompts."""
        return 1


def run(config: BrainConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Train the parent, which is the reference model too."""
    from lehr.post.brain_setup import brain_objective
    from lehr.post.tuning import tune

    return tune(config, brain_objective, inputs, attempt)


def expand(step: BrainStep, place: StepContext) -> list[Node]:
    """The node of the prompts, if they are prepared, and that of the model. Raises UserError as `prompts_of` does."""
    assert step.optim is not None
    rows = prompts_of(step, place)
    rewards, checkpoints = rewards_for(step.reward_models, place)
    config = BrainConfig(
        families=step.families, optim=step.optim, schedule=step.schedule, steps=step.total_steps, batch_size=step.batch_size,
        max_length=step.max_length, refresh_steps=step.refresh_steps, beta=step.beta, baseline=step.baseline,
        correct_reward=step.correct_reward, wrong_reward=step.wrong_reward, bonus=step.bonus,
        rewards=rewards, normalised_rewards=step.normalised_rewards,
        no_eos_reward=step.no_eos_reward, samples_per_prompt=step.samples_per_prompt,
        temperature=step.temperature, max_new_tokens=step.max_new_tokens, seed=place.seed(step.name), lora=step.lora,
        sampler=step.sampler, checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
    )  # fmt: skip
    inputs = {
        "parent": (place.parent,),
        "prompts": tuple(node.name for node in rows),
        "rewards": checkpoints,
    }
    return [*rows, Node(step.name, "brain", config, {role: names for role, names in inputs.items() if names})]


def plan(node: Node, place: PlanPlace) -> Work:
    """Its tokens are whole samples with their padding; sampling and reference passes are not counted."""
    return roll_out_work(node, place)


SPEC = StageSpec(
    "brain",
    BrainConfig,
    {
        "parent": Role("checkpoint"),
        "prompts": Role("prompts", optional=True),
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
