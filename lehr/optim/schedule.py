"""Learning rate as a pure function of progress. Pretraining counts tokens, fine-tuning counts steps; both are `done`."""

from __future__ import annotations

import math

from lehr.config.stages import Schedule


def learning_rate(schedule: Schedule, peak: float, done: int, total: int) -> float:
    """The rate for the update that begins after `done` of `total` units (tokens or steps).

    Warm-up is linear from zero. `cosine` falls to final_ratio * peak at the horizon and is cut off where the stage ends
    before it (OLMo 2 section 4.1: the 7B's cosine over 5T tokens is truncated at 4T); `linear` falls likewise on a line;
    `constant` stays.
    """
    warmup = schedule.warmup_tokens
    horizon = schedule.horizon_tokens or total
    if done < warmup:
        return peak * done / warmup
    if schedule.kind == "constant":
        return peak
    fraction = min(1.0, (done - warmup) / max(1, horizon - warmup))
    floor = schedule.final_ratio
    if schedule.kind == "linear":
        return peak * (1 - (1 - floor) * fraction)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * fraction)) / 2)
