"""Learning rate as a pure function of progress. Pretraining counts tokens, fine-tuning counts steps; both are `done`."""

from __future__ import annotations

import math

from lehr.config.stages import Schedule, StepSchedule


def by_tokens(schedule: Schedule, peak: float, tokens: int, total: int) -> float:
    """The rate for the update that begins after `tokens` of a stage's `total`."""
    horizon = schedule.horizon_tokens or total
    return learning_rate(schedule.kind, peak, tokens, schedule.warmup_tokens, horizon, schedule.final_ratio)


def by_steps(schedule: StepSchedule, peak: float, step: int, total: int) -> float:
    """The rate for the update that begins after `step` of a stage's `total` steps."""
    return learning_rate(schedule.kind, peak, step, schedule.warmup_steps, total, schedule.final_ratio)


def learning_rate(kind: str, peak: float, done: int, warmup: int, horizon: int, floor: float) -> float:
    """The rate after `done` units (tokens or steps); `warmup` and `horizon` are in the same units.

    Warm-up is linear from zero. `cosine` falls to `floor` * peak at the horizon and is cut off where the stage ends
    before it (OLMo 2 section 4.1: the 7B's cosine over 5T tokens is truncated at 4T); `linear` falls likewise on a line;
    `constant` stays.
    """
    if done < warmup:
        return peak * done / warmup
    if kind == "constant":
        return peak
    fraction = min(1.0, (done - warmup) / max(1, horizon - warmup))
    if kind == "linear":
        return peak * (1 - (1 - floor) * fraction)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * fraction)) / 2)
