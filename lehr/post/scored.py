"""What answers are worth: their verifiers' word and that of reward models. Shapes: B answers, T columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lehr.model.scalar import ScalarModel
from lehr.post.answers import Answers
from lehr.post.rendered import Rendered

_TOKENS = 8192  # padded ones that a reward model reads at once


def scored(own: Answers, models: Mapping[ScalarModel, float], pad_id: int, no_end_reward: float | None) -> Tensor:
    """Each answer's reward, (B): verifiers, plus the weighted reward models; in place of both `no_end_reward` for an answer
    without an end, unless it is None."""
    scores_B = own.rewards_B
    for model, weight in models.items():
        scores_B = scores_B + weight * last_values(model, own.rows, pad_id).cpu()
    return scores_B if no_end_reward is None else torch.where(own.finished_B, scores_B, no_end_reward)


@torch.no_grad()
def last_values(model: ScalarModel, rows: Sequence[Rendered], pad_id: int) -> Tensor:
    """What a reward model says at the last token of each row, (B)."""
    found = torch.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    while order:
        count = max(1, _TOKENS // len(rows[order[0]].ids))
        group, order = order[:count], order[count:]
        width = len(rows[group[0]].ids)
        tokens_BT = torch.tensor([rows[i].ids + [pad_id] * (width - len(rows[i].ids)) for i in group], device=model.cos.device)
        last_B = torch.tensor([len(rows[i].ids) - 1 for i in group], device=model.cos.device)
        found[group] = model.values(tokens_BT).gather(1, last_B[:, None])[:, 0].cpu()
    return found
