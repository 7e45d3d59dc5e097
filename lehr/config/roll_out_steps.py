"""Steps that sample answers while they train: GRPO, PPO and BRAIn."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.chat import Amount
from lehr.config.sampler import SamplerElsewhere
from lehr.config.steps import Tuning, TuningOptim


class GrpoStep(Tuning):
    """GRPO with verifiable rewards: advantages within a prompt's group of samples. `batch_size` counts prompts."""

    kind: Literal["grpo"]
    families: list[str] = []  # of generated prompts with verifiers, new ones for each roll-out
    examples: dict[str, Amount] = {}  # prompts in their place: name of a source in `chat`, or family -> how much of it
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.28  # DAPO's; no report gives bounds for GRPO
    kl: NonNegativeFloat = 0.01
    advantage_epsilon: NonNegativeFloat = 1e-8  # added to the group's standard deviation
    bonus: dict[str, float] = {}  # verifier without arguments -> its weight in the reward if it passes
    rollout_epochs: Positive = 1  # passes over each roll-out
    mini_batches: Positive = 1  # of each pass, with an update each
    episodes: NonNegative = 0  # samples in all, as some reports count
    sampler: SamplerElsewhere | None = None  # an engine that answers the prompts; by default the model in training itself

    @property
    def total_steps(self) -> int:
        """Optimiser steps; without `steps`, the updates of all roll-outs."""
        if self.steps or not self.batch_size:
            return self.steps
        prompts = self.episodes / self.samples_per_prompt or self.samples * (self.epochs or 1.0)
        return math.ceil(prompts / self.batch_size) * self.rollout_epochs * self.mini_batches


class RewardedStep(Tuning):
    """A step whose answers are rewarded by their prompts' verifiers, by reward models or both. `batch_size` counts prompts."""

    families: list[str] = []  # of generated prompts with verifiers, new ones for each roll-out
    examples: dict[str, Amount] = {}  # prompts in their place: name of a source in `chat`, or family -> how much of it
    correct_reward: float = 1.0  # times what the prompt's verifier says; 0.0 leaves it to reward models
    wrong_reward: float = 0.0  # where the verifier says 0
    bonus: dict[str, float] = {}  # verifier without arguments -> its weight in the reward if it passes
    reward_models: dict[str, float] = {}  # name of a reward model -> its weight; read at an answer's last token
    normalised_rewards: bool = False  # each less its mean, over its deviation, both of the roll-out (Granite 3.0 section 5.3.3)
    no_eos_reward: float | None = None  # in place of the reward, for an answer without an end; left out: its reward stays
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56
    sampler: SamplerElsewhere | None = None  # an engine that answers the prompts; by default the model in training itself


class PpoStep(RewardedStep):
    """PPO (Schulman et al. 2017) with a value model of its own, on verifiable rewards, reward models, or both. `batch_size`
    counts the prompts of a roll-out. The defaults are OLMo 2's (Table 18, the 7B's `kl`), but for the rewards, the length of
    answers, and `ppo_epochs`, which are four there."""

    kind: Literal["ppo"]
    value: str = ""  # name of the reward model from which the value model begins; by default the policy, with a head of zeros
    value_lr: NonNegativeFloat = 0.0  # its peak learning rate; 0: that of `optim`
    samples_per_prompt: Positive = 1
    gamma: Fraction = 1.0
    gae_lambda: Fraction = 0.95
    clip: PositiveFloat = 0.2
    value_clip: NonNegativeFloat = 0.2  # how far a value may move from the one at the roll-out; 0: anywhere
    value_coefficient: PositiveFloat = 0.1
    whitened_advantages: bool = True
    kl: NonNegativeFloat = 0.05  # the coefficient with which it begins
    kl_estimator: Literal["k1", "k3"] = "k1"  # in each token's reward
    kl_target: NonNegativeFloat = 0.0  # nats an answer that the coefficient steers at (Ziegler et al. 2019); 0: it stays
    kl_horizon: Positive = 10_000  # answers in which it does
    episodes: NonNegative = 0  # answers of one run
    ppo_epochs: Positive = 1  # passes over each roll-out
    mini_batches: Positive = 1  # of each pass, with an update each

    @property
    def total_steps(self) -> int:
        """Optimiser steps; without `steps`, as many as all episodes give."""
        if self.steps or not self.batch_size:
            return self.steps
        updates = self.episodes * self.ppo_epochs * self.mini_batches
        return math.ceil(updates / (self.batch_size * self.samples_per_prompt))


class BrainStep(RewardedStep):
    """BRAIn (Pandey et al. 2024; Granite 3.0 section 5.3.2): learns the posterior, the model of before reweighed by rewards, on
    the answers of an earlier policy. `batch_size` counts prompts."""

    kind: Literal["brain"]
    optim: TuningOptim | None = None  # type: ignore[assignment]  # the report does not give its learning rate
    refresh_steps: Positive = 100  # updates on one proposal's answers
    beta: PositiveFloat = 0.1  # divides the reward (Granite 3.0 equation 10); no report gives it
    baseline: bool = True  # subtract the policy's own weights: less variance while the proposal is near
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8


RollOutStep = GrpoStep | PpoStep | BrainStep  # steps that sample answers while they train
