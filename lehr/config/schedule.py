"""Learning-rate schedules, each with its own keys. Lengths are in tokens; `optim.lr` is the peak."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lehr.config.base import Config, Fraction, NonNegative, Positive, PositiveFloat


class Warmed(Config):
    """Every schedule begins with a linear warm-up from `warmup_start_ratio` of the peak."""

    warmup_tokens: NonNegative = 0
    warmup_start_ratio: Fraction = 0.0


class CosineSchedule(Warmed):
    """Falls to `final_ratio` of the peak at `horizon_tokens`, and is truncated if the stage ends before that (OLMo 2
    section 4.1)."""

    kind: Literal["cosine"] = "cosine"
    horizon_tokens: NonNegative = 0  # 0: the stage's own tokens
    final_ratio: Fraction = 0.1


class LinearSchedule(Warmed):
    """Falls to `final_ratio` of the peak linearly (OLMo 1 section 3.2; anneals: OLMo 2 section 2.3)."""

    kind: Literal["linear"]
    horizon_tokens: NonNegative = 0
    final_ratio: Fraction = 0.1


class ConstantSchedule(Warmed):
    """Stays at the peak."""

    kind: Literal["constant"]


class WsdSchedule(Warmed):
    """Warm-up, constant, then decay over the last `decay_tokens` of the stage (Hu et al. 2024)."""

    kind: Literal["wsd"]
    decay_tokens: Positive
    decay: Literal["linear", "exponential"] = "linear"
    final_ratio: Fraction = 0.0


class PowerSchedule(Warmed):
    """min(peak, beta * amplitude * n^exponent) after n tokens, with a final decay (Granite 3.0 equation 9; Shen et al.
    2024)."""

    kind: Literal["power"]
    amplitude: PositiveFloat = 4.0
    exponent: Annotated[float, Field(lt=0)] = -0.51
    beta: Positive  # the batch size in sequences
    decay_tokens: NonNegative = 0  # length of the final decay; 0: none, a later stage decays
    decay: Literal["exponential", "linear"] = "exponential"
    final_ratio: Fraction = 0.0  # of the rate at which the final decay begins


class HybridSchedule(Warmed):
    """A quarter of a cosine's period, then alpha / sqrt(i + beta), then linearly to zero (Stable LM 2 equation 1).

    `period_tokens` is N, `minimum_ratio` m over the peak M; alpha and beta follow from continuity of value and slope.
    """

    kind: Literal["hybrid"]
    period_tokens: Positive
    minimum_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    cooldown_tokens: NonNegative = 0


Schedule = Annotated[
    CosineSchedule | LinearSchedule | ConstantSchedule | WsdSchedule | PowerSchedule | HybridSchedule,
    Field(discriminator="kind"),
]


class StepSchedule(Config):
    """Learning rate as a function of steps, for fine-tuning."""

    kind: Literal["cosine", "linear", "constant"] = "linear"
    warmup_steps: NonNegative = 0
    warmup_ratio: Fraction = 0.0  # of all steps, if warmup_steps is 0
    final_ratio: Fraction = 0.0  # of the peak, at the end


class BatchRamp(Config):
    """Batch size that begins at `start` sequences and doubles every `double_every_tokens` up to the stage's own
    (OLMo 1 section 3.1, the 65B)."""

    start: Positive
    double_every_tokens: Positive
