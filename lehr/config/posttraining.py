"""Post-training plans of released models: each stage with the hyperparameters that its report or code gives.

These are descriptions of runs on data that others hold. `sft`, `dpo` and `rlvr` of the recipe are what this version runs
itself, on generated data. What a source does not give is left out here too: None, 0 and "" mean "not given".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat

Ensemble = Literal["", "arithmetic", "geometric"]  # mean of normalised rewards, or of ranks


class Described(Config):
    """What every stage may say."""

    name: str = ""
    domains: dict[str, Fraction] = {}  # shares of the examples or prompts
    supply: str = ""  # what must be supplied


class Lengths(Described):
    """What the gradient-based stages share; lengths are in epochs, steps or episodes, whichever the source gives."""

    batch_size: NonNegative = 0  # sequences, pairs or episodes
    batch_tokens: NonNegative = 0
    epochs: NonNegativeFloat = 0.0
    steps: NonNegative = 0
    samples: NonNegative = 0  # examples, prompts or pairs
    datasets: dict[str, Positive] = {}  # the same by data set
    schedule: Literal["linear", "cosine", "constant"] | None = None
    final_ratio: Fraction = 0.0  # of the peak
    warmup_ratio: Fraction = 0.0
    warmup_steps: NonNegative = 0
    weight_decay: NonNegativeFloat | None = None
    clip_norm: PositiveFloat | None = None
    max_length: NonNegative = 0  # tokens
    prompt_length: NonNegative = 0  # tokens of it that may be prompt

    @model_validator(mode="after")
    def _sums(self) -> Lengths:
        total = sum(self.datasets.values())
        if self.samples and total not in (0, self.samples):
            raise ValueError(f"samples={self.samples} is not the {total} that datasets sum to; mend one of them")
        return self


class Tuning(Lengths):
    """A stage that trains the model itself."""

    lr: PositiveFloat


class SftPlan(Tuning):
    """Supervised fine-tuning on conversations, loss on the assistant's tokens."""

    kind: Literal["sft"]
    loss_reduction: Literal["", "sum", "mean"] = ""  # over tokens
    packing: Literal["", "none", "concatenate", "first-fit-decreasing"] = ""
    max_turns: NonNegative = 0
    majority_of: NonNegative = 0  # synthetic mathematics is kept where this many completions reach a majority
    special_tokens: list[str] = []  # added to the vocabulary
    roles: list[str] = []
    turn: str = ""  # how a turn is written
    end_token_from_mean: bool = False  # its embedding begins anew as the mean of all


class DpoPlan(Tuning):
    """Direct preference optimisation; `normalised` divides log-probabilities by length."""

    kind: Literal["dpo"]
    beta: PositiveFloat
    normalised: bool = False
    judged: list[str] = []  # aspects that a judge rates
    chosen: str = ""
    rejected: str = ""
    filters: list[str] = []


class RewardModelPlan(Lengths):
    """A reward model: Bradley-Terry on pairs, regression on aspects, or a contrast of two models' log-probabilities, which
    trains nothing."""

    kind: Literal["reward_model"]
    loss: Literal["bradley-terry", "multi-aspect", "contrastive"] = "bradley-terry"
    lr: PositiveFloat | None = None
    seeds: Positive = 1
    base: str = ""  # the model that it begins with, or the two that are contrasted
    aspects: list[str] = []
    aspect_range: list[float] = []
    gold_share: Fraction = 0.0  # of the pairs; the rest is synthetic


class PpoPlan(Tuning):
    """PPO, with verifiable rewards or reward models."""

    kind: Literal["ppo"]
    kl: list[PositiveFloat] = Field(min_length=1)  # coefficient, one value a run
    kl_estimator: Literal["", "k1", "k3"] = ""
    kl_target: NonNegativeFloat = 0.0  # of an adaptive controller
    kl_horizon: NonNegative = 0
    episodes: NonNegative = 0  # of one run
    gamma: Fraction | None = None
    gae_lambda: Fraction | None = None
    ppo_epochs: NonNegative = 0  # passes over each batch of episodes
    mini_batches: NonNegative = 0
    clip: PositiveFloat | None = None
    value_coefficient: PositiveFloat | None = None
    value_init: str = ""
    whitened_advantages: bool = False
    temperature: PositiveFloat | None = None
    response_length: NonNegative = 0
    no_eos_reward: float | None = None  # instead of the others, where no end token comes
    correct_reward: float | None = None
    wrong_reward: float | None = None
    reward_model_weight: NonNegativeFloat | None = None
    reward_models: NonNegative = 0
    ensemble: Ensemble = ""
    lora_rank: NonNegative = 0
    lora_alpha: NonNegative = 0
    roll_outs: NonNegative = 0
    prompts: list[str] = []  # prompt sets, one entry a run


class GrpoPlan(Tuning):
    """GRPO with verifiable rewards."""

    kind: Literal["grpo"]
    kl: PositiveFloat
    kl_estimator: Literal["", "k1", "k3"] = ""
    samples_per_prompt: Positive
    prompts_per_rollout: NonNegative = 0
    mini_batches: NonNegative = 0
    episodes: NonNegative = 0
    temperature: PositiveFloat | None = None
    no_eos_reward: float | None = None
    prompts: list[str] = []  # prompt sets, one entry a run


class BestOfNPlan(Described):
    """The best of n samples by reward models becomes training data."""

    kind: Literal["best_of_n"]
    n: Positive
    iterations: Positive = 1
    reward_models: Positive = 1
    ensemble: Ensemble = ""


class BrainPlan(Described):
    """BRAIn (Pandey et al. 2024): the proposal is refreshed every so many steps."""

    kind: Literal["brain"]
    refresh_steps: Positive
    ensemble: Ensemble = ""


class SelfKnowledgePlan(Tuning):
    """Self-knowledge: questions about the model itself, wrong answers behind a negative token (Stable LM 2 section 3.3)."""

    kind: Literal["self_knowledge"]
    packing: Literal["", "none"] = ""
    negative: str = ""  # what marks a wrong answer


class MergePlan(Described):
    """The mean of models specialised in different domains."""

    kind: Literal["merge"]


PostStage = Annotated[
    SftPlan | DpoPlan | RewardModelPlan | PpoPlan | GrpoPlan | BestOfNPlan | BrainPlan | SelfKnowledgePlan | MergePlan,
    Field(discriminator="kind"),
]
