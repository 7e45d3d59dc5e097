"""Post-training plans of released models: each stage with the hyperparameters that its report or code gives.

These are descriptions of runs on data that others hold. `sft`, `dpo` and `rlvr` of the recipe are what this version runs
itself, on generated data.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Config, Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat


class Tuning(Config):
    """What the gradient-based stages share; lengths are in epochs, steps or episodes, whichever the source gives."""

    name: str = ""
    lr: PositiveFloat
    batch_size: NonNegative = 0  # sequences, pairs or episodes; 0: given in tokens, or not at all
    batch_tokens: NonNegative = 0
    epochs: NonNegativeFloat = 0.0
    steps: NonNegative = 0
    samples: NonNegative = 0  # examples, prompts or pairs
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    final_ratio: Fraction = 0.0
    warmup_ratio: Fraction = 0.0
    warmup_steps: NonNegative = 0
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    max_length: NonNegative = 0
    supply: str = ""  # what must be supplied


class SftPlan(Tuning):
    """Supervised fine-tuning on conversations."""

    kind: Literal["sft"]
    loss_reduction: Literal["sum", "mean"] = "mean"
    packing: Literal["none", "concatenate", "first-fit-decreasing"] = "none"
    max_turns: NonNegative = 0


class DpoPlan(Tuning):
    """Direct preference optimisation; `normalised` divides log-probabilities by length."""

    kind: Literal["dpo"]
    beta: PositiveFloat
    normalised: bool = False
    filters: list[str] = []


class RewardModelPlan(Tuning):
    """A reward model: Bradley-Terry on pairs, regression on aspects, or a contrast of two models' log-probabilities."""

    kind: Literal["reward_model"]
    loss: Literal["bradley-terry", "multi-aspect", "contrastive"] = "bradley-terry"
    aspects: list[str] = []
    base: str = ""
    gold_share: Fraction = 0.0


class PpoPlan(Tuning):
    """PPO, with verifiable rewards or reward models."""

    kind: Literal["ppo"]
    kl: list[PositiveFloat] = Field(min_length=1)  # one value a run
    kl_target: NonNegativeFloat = 0.0  # 0: no adaptive controller
    episodes: NonNegative = 0
    gamma: Fraction = 1.0
    gae_lambda: Fraction = 0.95
    ppo_epochs: Positive = 4
    mini_batches: Positive = 1
    clip: PositiveFloat = 0.2
    value_coefficient: NonNegativeFloat = 0.1
    temperature: PositiveFloat = 1.0
    response_length: NonNegative = 0
    no_eos_reward: float = 0.0
    correct_reward: float = 0.0
    wrong_reward: float = 0.0
    reward_model_weight: NonNegativeFloat = 1.0
    lora_rank: NonNegative = 0
    lora_alpha: NonNegative = 0
    roll_outs: NonNegative = 0
    prompts: list[str] = []  # prompt sets, one entry a run


class GrpoPlan(Tuning):
    """GRPO with verifiable rewards."""

    kind: Literal["grpo"]
    kl: PositiveFloat
    kl_estimator: Literal["k1", "k3"] = "k3"
    samples_per_prompt: Positive
    prompts_per_rollout: NonNegative = 0
    mini_batches: Positive = 1
    episodes: NonNegative = 0
    temperature: PositiveFloat = 1.0
    no_eos_reward: float = 0.0
    prompts: list[str] = []


class BestOfNPlan(Config):
    """The best of n samples by reward models becomes training data."""

    kind: Literal["best_of_n"]
    n: Positive
    iterations: Positive = 1
    reward_models: Positive = 1
    ensemble: Literal["arithmetic", "geometric"] = "arithmetic"
    supply: str = ""


class BrainPlan(Config):
    """BRAIn (Pandey et al. 2024): the proposal is refreshed every so many steps."""

    kind: Literal["brain"]
    refresh_steps: Positive
    supply: str = ""


class SelfKnowledgePlan(Tuning):
    """Self-knowledge: questions about the model itself, wrong answers behind a negative token (Stable LM 2 section 3.3)."""

    kind: Literal["self_knowledge"]


class MergePlan(Config):
    """The mean of models specialised in different domains."""

    kind: Literal["merge"]
    supply: str = ""


PostStage = Annotated[
    SftPlan | DpoPlan | RewardModelPlan | PpoPlan | GrpoPlan | BestOfNPlan | BrainPlan | SelfKnowledgePlan | MergePlan,
    Field(discriminator="kind"),
]
