"""Pretraining: stage 1, the ramp, the anneals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegative, Positive
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, CosineSchedule, Schedule


class Pretrain(Config):
    """One phase of next-token training on a mix."""

    mix: str
    tokens: Positive
    batch_size: Positive  # sequences in the global batch
    sequence_length: Positive
    optim: Optim
    schedule: Schedule = CosineSchedule()
    batch_ramp: BatchRamp | None = None
    mask_repeats: bool = True  # no loss on instances that repeat an n-gram of up to 13 tokens 32 times (OLMo 2 section 3.1)
    document_mask: bool = False  # documents in one window do not attend to each other, positions restart (Stable LM 2's code)
    checkpoint_steps: Positive = 50

    @property
    def steps(self) -> int:
        """Whole optimiser steps in the token budget at the full batch size."""
        return self.tokens // (self.batch_size * self.sequence_length)

    @model_validator(mode="after")
    def _some_step(self) -> Pretrain:
        if self.steps < 1:
            step = self.batch_size * self.sequence_length
            raise ValueError(f"tokens={self.tokens} is less than one step of {step} tokens; raise tokens or lower batch_size")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Pretrain:
        horizon: int = getattr(self.schedule, "horizon_tokens", 0)
        if horizon and horizon < self.tokens:
            raise ValueError(f"schedule.horizon_tokens={horizon} ends before tokens={self.tokens}; raise it or set it to 0")
        if self.schedule.warmup_tokens >= (horizon or self.tokens):
            raise ValueError(f"schedule.warmup_tokens={self.schedule.warmup_tokens} leaves nothing after the warm-up; lower it")
        for key in ("decay_tokens", "cooldown_tokens"):
            length: int = getattr(self.schedule, key, 0)
            if length and length + self.schedule.warmup_tokens > self.tokens:
                raise ValueError(f"schedule.{key}={length} and the warm-up are longer than tokens={self.tokens}; lower it")
        if self.batch_ramp and self.batch_ramp.start > self.batch_size:
            raise ValueError(f"batch_ramp.start={self.batch_ramp.start} is more than batch_size={self.batch_size}; lower it")
        return self


class Ramp(Config):
    """Training on the better mix at the parent's learning rate, held constant, so that skills form before the anneals
    branch."""

    mix: str
    tokens: Positive
    checkpoint_steps: Positive = 50


class AnnealRun(Config):
    """One anneal: its own mix, length and seed."""

    mix: str
    tokens: Positive
    seed: NonNegative


class Anneals(Config):
    """Several anneals of one parent, from the parent's learning rate to zero (OLMo 2 section 2.3).

    Each of `seeds` makes one run with `mix` and `tokens`; `more` adds runs with another mix or length. Batch size, sequence
    length and optimiser are the parent's.
    """

    mix: str
    tokens: Positive
    seeds: list[NonNegative] = Field(min_length=1)
    more: list[AnnealRun] = []
    decay: Literal["linear", "exponential"] = "linear"
    soup: bool = True  # average the runs; otherwise the first one is used
    checkpoint_steps: Positive = 50

    @property
    def runs(self) -> list[AnnealRun]:
        return [*(AnnealRun(mix=self.mix, tokens=self.tokens, seed=seed) for seed in self.seeds), *self.more]

    @property
    def names(self) -> list[str]:
        """`anneal-SEED` for each run; if the seed has occurred before, with its billions of tokens: `anneal-42-300b`."""
        out: list[str] = []
        for run in self.runs:
            name = f"anneal-{run.seed}"
            out.append(f"{name}-{run.tokens / 1e9:g}b".replace(".", "-") if name in out else name)  # Flyte's names have no dots
        return out

    @model_validator(mode="after")
    def _distinct(self) -> Anneals:
        if len({(run.seed, run.mix, run.tokens) for run in self.runs}) != len(self.runs):
            raise ValueError(f"seeds={self.seeds} repeat one another; a soup needs different data orders")
        return self
