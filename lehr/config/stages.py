"""Stages: optimiser, schedules, pretraining, anneals, post-training, evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat


class Guard(Config):
    """Skip an update whose loss or gradient norm stands out of the last `window` ones (OLMo-core's skip-step)."""

    enabled: bool = True
    window: Annotated[int, Field(ge=8)] = 128
    sigmas: PositiveFloat = 6.0


class Optim(Config):
    """AdamW as in OLMo 2 (section 3, appendix): decoupled decay on everything but the embeddings."""

    lr: PositiveFloat
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.95], min_length=2, max_length=2)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    clip_norm: PositiveFloat = 1.0
    z_loss: NonNegativeFloat = 1e-5
    guard: Guard = Guard()


class Schedule(Config):
    """Learning rate as a function of tokens. `horizon_tokens` beyond the stage's own tokens truncates a cosine."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_tokens: NonNegative = 0
    horizon_tokens: NonNegative = 0  # 0: the stage's own tokens
    final_ratio: Fraction = 0.1  # of the peak, at the horizon


class StepSchedule(Config):
    """Learning rate as a function of steps, for fine-tuning."""

    kind: Literal["cosine", "linear", "constant"] = "linear"
    warmup_steps: NonNegative = 0
    final_ratio: Fraction = 0.0  # of the peak, at the end


class Pretrain(Config):
    """One stretch of next-token training on a mix."""

    mix: str
    tokens: Positive
    batch_size: Positive  # sequences in the global batch
    sequence_length: Positive
    optim: Optim
    schedule: Schedule = Schedule()
    checkpoint_steps: Positive = 50

    @property
    def steps(self) -> int:
        """Whole optimiser steps that the token budget pays for."""
        return self.tokens // (self.batch_size * self.sequence_length)

    @model_validator(mode="after")
    def _some_step(self) -> Pretrain:
        if self.steps < 1:
            step = self.batch_size * self.sequence_length
            raise ValueError(f"tokens={self.tokens} do not pay for one step of {step} tokens; raise tokens or lower batch_size")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Pretrain:
        horizon = self.schedule.horizon_tokens
        if horizon and horizon < self.tokens:
            raise ValueError(f"schedule.horizon_tokens={horizon} end before tokens={self.tokens}; raise it or set it to 0")
        if self.schedule.warmup_tokens >= (horizon or self.tokens):
            raise ValueError(f"schedule.warmup_tokens={self.schedule.warmup_tokens} leave nothing after the warm-up; lower it")
        return self


class Ramp(Config):
    """The parent's learning rate, held constant, on the better mix: skills form here, before the anneals branch."""

    mix: str
    tokens: Positive
    checkpoint_steps: Positive = 50


class Anneals(Config):
    """From one parent, once per seed: from the parent's learning rate linearly to zero (OLMo 2 section 4.3).

    Batch size, sequence length and optimiser come from the parent. Seeds differ only in data order.
    """

    mix: str
    tokens: Positive
    seeds: list[NonNegative] = Field(min_length=1)
    checkpoint_steps: Positive = 50

    @model_validator(mode="after")
    def _distinct(self) -> Anneals:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds} repeat one another; a soup needs different data orders")
        return self


class Finetune(Config):
    """What SFT, DPO and RLVR share."""

    optim: Optim
    schedule: StepSchedule = StepSchedule()
    steps: Positive
    batch_size: Positive
    checkpoint_steps: Positive = 20


class Sft(Finetune):
    """Supervised fine-tuning on conversations, loss on the assistant's tokens only."""

    examples: dict[str, Positive] = Field(min_length=1)  # chat family -> how many training conversations
    max_length: Positive = 128
    replay_rows: NonNegative = 0  # windows of pretraining text added to each batch, against forgetting
    replay_mix: str = ""


class Dpo(Finetune):
    """Length-normalised DPO (OLMo 2 section 5, `dpo_norm`) on pairs sampled from the SFT model itself."""

    families: list[str] = Field(min_length=1)
    beta: PositiveFloat = 5.0
    chosen_nll: NonNegativeFloat = 0.2  # weight of the chosen answer's own negative log-likelihood
    prompts: Positive
    held_out_prompts: Positive
    samples: Annotated[int, Field(ge=2)] = 3
    reference_answers: bool = False  # prefer the data's own answer where no sample passes; off-policy, so not by default
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56


class Rlvr(Finetune):
    """GRPO with verifiable rewards: advantages within a prompt's group of samples. `batch_size` counts prompts."""

    samples: Annotated[int, Field(ge=2)] = 8
    families: list[str] = Field(min_length=1)
    temperature: PositiveFloat = 1.0
    max_new_tokens: Positive = 56
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.28
    kl: NonNegativeFloat = 0.01


class TaskPlan(Config):
    """One evaluation task, scored on `limit` examples of each split at the stages that it applies to."""

    task: str
    limit: Positive = 200
    splits: list[Literal["dev", "held_out"]] = Field(default=["held_out"], min_length=1)
    stages: Literal["all", "pretrained", "chat"] = "all"


class Evaluation(Config):
    tasks: list[TaskPlan] = Field(min_length=1)
    max_new_tokens: Positive = 56
    in_loop_steps: NonNegative = 100  # evaluate `prose` on dev every so many pretraining steps; 0: never
