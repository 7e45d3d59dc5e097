"""Learning rate as a pure function of progress. Pretraining counts tokens, fine-tuning counts steps."""

from __future__ import annotations

import math

from lehr.config.schedule import (
    CosineSchedule,
    HybridSchedule,
    LinearSchedule,
    PowerSchedule,
    Schedule,
    StepSchedule,
    WsdSchedule,
)


def anneal_schedule(decay: str, tokens: int) -> Schedule:
    """An anneal's schedule: from its parent's rate to zero over `tokens`, linearly (OLMo 2 section 2.3) or exponentially
    (Granite 3.0 section 4.2)."""
    if decay == "exponential":
        return WsdSchedule(kind="wsd", decay_tokens=tokens, decay="exponential")
    return LinearSchedule(kind="linear", final_ratio=0.0)


def by_tokens(schedule: Schedule, peak: float, tokens: int, total: int) -> float:
    """The rate of the update after `tokens` of a stage's `total`."""
    warmup = schedule.warmup_tokens
    if tokens < warmup:
        start = schedule.warmup_start_ratio
        return peak * (start + (1 - start) * tokens / warmup)
    if isinstance(schedule, CosineSchedule | LinearSchedule):
        horizon = schedule.horizon_tokens or total
        fraction = min(1.0, (tokens - warmup) / max(1, horizon - warmup))
        shape = cosine if isinstance(schedule, CosineSchedule) else line
        return peak * shape(fraction, schedule.final_ratio)
    if isinstance(schedule, WsdSchedule):
        return peak * _tail(tokens, total, schedule.decay_tokens, schedule.decay, schedule.final_ratio)
    if isinstance(schedule, PowerSchedule):
        # The tail begins at the rate that the power law has reached by then (Granite 3.0 equation 9).
        before = min(tokens, total - schedule.decay_tokens)
        # max: at 0 tokens a negative power has no value.
        rate = min(peak, schedule.beta * schedule.amplitude * math.pow(max(before, 1), schedule.exponent))
        return rate * _tail(tokens, total, schedule.decay_tokens, schedule.decay, schedule.final_ratio)
    if isinstance(schedule, HybridSchedule):
        return _hybrid(schedule, peak, tokens, total)
    return peak


def by_steps(schedule: StepSchedule, peak: float, step: int, total: int) -> float:
    """The rate of the update after `step` of a stage's `total` steps."""
    warmup = schedule.warmup_steps or int(schedule.warmup_ratio * total)
    if step < warmup:
        return peak * step / warmup
    if schedule.kind == "constant":
        return peak
    fraction = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (cosine if schedule.kind == "cosine" else line)(fraction, schedule.final_ratio)


def line(fraction: float, floor: float) -> float:
    """1 at 0, `floor` at 1, linear between."""
    return 1 - (1 - floor) * fraction


def cosine(fraction: float, floor: float) -> float:
    """1 at 0, `floor` at 1, half a cosine between."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * fraction)) / 2


def exponential(fraction: float, floor: float) -> float:
    """1 at 0, `floor` at 1: a e^-u + b, the decay of IBM's engine (Granite 3.0 section 4.2 gives no formula)."""
    a, b = (1 - floor) * math.e / (math.e - 1), (floor * math.e - 1) / (math.e - 1)
    return a * math.exp(-fraction) + b


def _tail(tokens: int, total: int, length: int, shape: str, floor: float) -> float:
    """The factor of a decay over the last `length` of `total` tokens; 1 before them."""
    if not length or tokens <= total - length:
        return 1.0
    fraction = min(1.0, (tokens - (total - length)) / length)
    return (exponential if shape == "exponential" else line)(fraction, floor)


def hybrid_constants(period: float, peak: float, minimum: float) -> tuple[float, float]:
    """alpha and beta of alpha / sqrt(i + beta), which meets the cosine of `period` at a quarter of it in value and slope
    (Stable LM 2 section 2.5): value (peak + minimum) / 2, slope -pi (peak - minimum) / period."""
    reach = period * (peak + minimum) / (4 * math.pi * (peak - minimum))
    return (peak + minimum) / 2 * math.sqrt(reach), reach - period / 4


def _hybrid(schedule: HybridSchedule, peak: float, tokens: int, total: int) -> float:
    minimum, period = peak * schedule.minimum_ratio, schedule.period_tokens
    began = total - schedule.cooldown_tokens  # from here the rate reached is scaled, as under the power law
    i = min(tokens, began) - schedule.warmup_tokens  # counted after the warm-up
    if i <= period / 4:
        rate = minimum + (peak - minimum) / 2 * (math.cos(2 * math.pi * i / period) + 1)
    else:
        alpha, beta = hybrid_constants(period, peak, minimum)
        rate = alpha / math.sqrt(i + beta)
    return rate * _tail(tokens, total, schedule.cooldown_tokens, "linear", 0.0)
