"""What a roll-out's answers are worth: their verifiers' word and that of reward models. Shapes: B answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lehr.model.scalar import ScalarModel
from lehr.post.answers import Answers
from lehr.post.rewards.rows import all_numbers


def scored(own: Answers, models: Mapping[ScalarModel, float], no_end_reward: float | None) -> Tensor:
    """Each answer's reward, (B): verifiers, plus the weighted reward models; in place of both `no_end_reward` for an answer
    without an end, unless it is None."""
    scores_B = own.rewards_B
    for model, weight in models.items():
        scores_B = scores_B + weight * all_numbers(model, own.rows)[:, 0]
    return scores_B if no_end_reward is None else torch.where(own.finished_B, scores_B, no_end_reward)
