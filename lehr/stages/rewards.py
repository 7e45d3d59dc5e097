"""The rewards that a stage asks: reward models, and contrasts of two language models."""

from __future__ import annotations

from collections.abc import Mapping

from lehr.config.base import Config, Positive
from lehr.pipeline.step_context import StepContext


class RewardConfig(Config):
    """A reward by name, of the next one or two of the stage's `rewards`."""

    name: str
    checkpoints: Positive
    per_token: bool
    weight: float


def rewards_for(weights: Mapping[str, float], place: StepContext) -> tuple[list[RewardConfig], tuple[str, ...]]:
    """The configuration of a step's rewards by name, or address, and the checkpoints that they are computed with. What weighs
    nothing is not asked."""
    used = {name: place.reward(name) for name, weight in weights.items() if weight}
    configs = [
        RewardConfig(name=name, checkpoints=len(r.checkpoints), per_token=r.per_token, weight=weights[name])
        for name, r in used.items()
    ]
    return configs, tuple(name for r in used.values() for name in r.checkpoints)
