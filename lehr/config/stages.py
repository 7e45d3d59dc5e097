"""Stages: optimiser, schedules, pretraining, anneals, post-training, evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive, PositiveFloat
from lehr.config.schedule import BatchRamp, CosineSchedule, Schedule, StepSchedule


class Rewind(Config):
    """After this many bad steps in a row go back to the last good checkpoint and leave out the batches since then, but no more
    than `before` ahead of the first bad one."""

    after: Annotated[int, Field(ge=2)] = 8  # steps whose loss or gradient was not finite or stood out
    limit: Positive = 3  # times in a stage; then the guard is alone
    before: NonNegative = 100  # PaLM's figure


class Guard(Config):
    """Skip an update whose loss or gradient norm stands out of the last `window` ones (OLMo-core's skip-step)."""

    enabled: bool = True
    window: Annotated[int, Field(ge=8)] = 128
    sigmas: PositiveFloat = 6.0
    rewind: Rewind | None = None

    @model_serializer(mode="wrap")
    def _said_where_it_is_meant(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a rewind nothing is said of it: what was written down before there were any stays the same."""
        said: dict[str, Any] = handler(self)
        if self.rewind is None:
            said.pop("rewind", None)
        return said


class Optim(Config):
    """AdamW with decoupled decay; the defaults are OLMo 2's (section 3). Under muP matrices learn at lr / m_width."""

    lr: PositiveFloat
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.95], min_length=2, max_length=2)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    clip_norm: PositiveFloat = 1.0
    z_loss: NonNegativeFloat = 1e-5
    decay_embeddings: bool = False  # OLMo 2 does not (section 3.3.1), OLMo 1 did
    decay_norms: bool = True  # and biases
    clip_warmup_tokens: NonNegative = 0  # for these, clip_norm is clip_warmup_factor times as large (OLMo 1's configuration)
    clip_warmup_factor: PositiveFloat = 1.0
    guard: Guard = Guard()


class Pretrain(Config):
    """One stretch of next-token training on a mix."""

    mix: str
    tokens: Positive
    batch_size: Positive  # sequences in the global batch
    sequence_length: Positive
    optim: Optim
    schedule: Schedule = CosineSchedule()
    batch_ramp: BatchRamp | None = None
    mask_repeats: bool = True  # no loss on instances that repeat an n-gram of up to 13 tokens 32 times (OLMo 2 section 3.1)
    document_mask: bool = False  # documents of one window do not see each other, positions restart (Stable LM 2's code)
    checkpoint_steps: Positive = 50

    @property
    def steps(self) -> int:
        """Whole optimiser steps that the token budget pays for at the full batch size."""
        return self.tokens // (self.batch_size * self.sequence_length)

    @model_validator(mode="after")
    def _some_step(self) -> Pretrain:
        if self.steps < 1:
            step = self.batch_size * self.sequence_length
            raise ValueError(f"tokens={self.tokens} do not pay for one step of {step} tokens; raise tokens or lower batch_size")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Pretrain:
        horizon: int = getattr(self.schedule, "horizon_tokens", 0)
        if horizon and horizon < self.tokens:
            raise ValueError(f"schedule.horizon_tokens={horizon} end before tokens={self.tokens}; raise it or set it to 0")
        if self.schedule.warmup_tokens >= (horizon or self.tokens):
            raise ValueError(f"schedule.warmup_tokens={self.schedule.warmup_tokens} leave nothing after the warm-up; lower it")
        for key in ("decay_tokens", "cooldown_tokens"):
            length: int = getattr(self.schedule, key, 0)
            if length and length + self.schedule.warmup_tokens > self.tokens:
                raise ValueError(f"schedule.{key}={length} and the warm-up are longer than tokens={self.tokens}; lower it")
        if self.batch_ramp and self.batch_ramp.start > self.batch_size:
            raise ValueError(f"batch_ramp.start={self.batch_ramp.start} is more than batch_size={self.batch_size}; lower it")
        return self


class Ramp(Config):
    """The parent's learning rate, held constant, on the better mix: skills form here, before the anneals branch."""

    mix: str
    tokens: Positive
    checkpoint_steps: Positive = 50


class AnnealRun(Config):
    """One anneal: its own mix, length and seed."""

    mix: str
    tokens: Positive
    seed: NonNegative


class Anneals(Config):
    """From one parent, once per run: from the parent's learning rate to zero (OLMo 2 section 4.3).

    `seeds` give one run each with `mix` and `tokens`; `more` adds runs of another mix or length. Batch size, sequence
    length and optimiser come from the parent.
    """

    mix: str
    tokens: Positive
    seeds: list[NonNegative] = Field(min_length=1)
    more: list[AnnealRun] = []
    decay: Literal["linear", "exponential"] = "linear"
    soup: bool = True  # average the runs; without it the first one goes on
    checkpoint_steps: Positive = 50

    @property
    def runs(self) -> list[AnnealRun]:
        return [*(AnnealRun(mix=self.mix, tokens=self.tokens, seed=seed) for seed in self.seeds), *self.more]

    @property
    def names(self) -> list[str]:
        """`anneal-SEED` of each run; one whose seed came before says its billions of tokens too."""
        out: list[str] = []
        for run in self.runs:
            name = f"anneal-{run.seed}"
            out.append(f"{name}-{run.tokens / 1e9:g}B" if name in out else name)
        return out

    @model_validator(mode="after")
    def _distinct(self) -> Anneals:
        if len({(run.seed, run.mix, run.tokens) for run in self.runs}) != len(self.runs):
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
