"""What a roll-out's answers are worth: their verifiers' word and that of rewards. Shapes: B answers of this rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.post.answers import Answers
from lehr.post.moments import moments
from lehr.post.rewards.scorers import Scorer


@dataclass(frozen=True)
class Weighed:
    """A reward model, or the contrast of two language models, and its weight."""

    scorer: Scorer
    weight: float


@dataclass(frozen=True)
class Rewards:
    """What is added to the verifiers' word. `normalised`: each reward less its mean, over its deviation, of the roll-out
    (Granite 3.0 section 5.3.3). `no_end` stands in place of all for an answer without an end; None: nothing does."""

    weighed: Sequence[Weighed] = ()
    normalised: bool = False
    no_end: float | None = None


NONE = Rewards()  # verifiers alone


def scored(own: Answers, rewards: Rewards, ranks: Ranks) -> Tensor:
    """Each answer's reward, (B). A collective where rewards are normalised."""
    scores_B = own.rewards_B
    for each in rewards.weighed:
        found_B = each.scorer.scores(own.rows)
        if rewards.normalised:
            ((_, mean, variance),) = moments(ranks, found_B)
            found_B = (found_B - mean) / variance**0.5 if variance > 0 else torch.zeros_like(found_B)
        scores_B = scores_B + each.weight * found_B
    return scores_B if rewards.no_end is None else torch.where(own.finished_B, scores_B, rewards.no_end)
