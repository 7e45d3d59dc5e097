"""PPO (Schulman et al. 2017) with a penalty on the divergence from a reference in the reward of each token, as in Ziegler et
al. (2019) and OLMo 2 (Table 18). Shapes: B rows, T columns; masks are true at an answer's tokens, which are adjacent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lehr.post.rewards.scored import NONE, Rewards
from lehr.post.rollout import Updates

Estimator = Literal["k1", "k3"]
_EPSILON = 1e-8  # TRL's and open-instruct's, below the variance


@dataclass(frozen=True)
class Controller:
    """A coefficient that follows the divergence (Ziegler et al. 2019, section 2.2): after n answers it is multiplied by
    1 + n / `horizon` * clip(KL / `target` - 1, -0.2, 0.2). `target` is in nats an answer; without one it stays as it is."""

    initial: float
    target: float = 0.0
    horizon: float = 10_000.0

    def next(self, coefficient: float, answer_kl: float, answers: int) -> float:
        """The coefficient after a roll-out of `answers` answers whose mean divergence was `answer_kl`."""
        if not self.target:
            return coefficient
        error = min(max(answer_kl / self.target - 1, -0.2), 0.2)
        return coefficient * (1 + error * answers / self.horizon)


@dataclass(frozen=True)
class PpoSettings:
    """`clip` bounds the ratio and `value_clip` how far a value may move from the one at the roll-out (0: anywhere).
    `value_coefficient` weighs the value loss. Log-probabilities are taken at the sampling `temperature`. `epochs`,
    `mini_batches`: see Updates. `rewards` are added to the verifiers' word."""

    prompts: int
    samples: int
    temperature: float
    max_new_tokens: int
    kl: Controller
    kl_estimator: Estimator = "k1"
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    whitened: bool = True
    epochs: int = 1
    mini_batches: int = 1
    rewards: Rewards = NONE

    @property
    def updates(self) -> Updates:
        """How often a roll-out is used. Raises UserError as Updates does."""
        return Updates(self.prompts, self.samples, self.epochs, self.mini_batches)


def divergence(old_BT: Tensor, reference_BT: Tensor, estimator: Estimator) -> Tensor:
    """KL(policy || reference) estimated at each sampled token (Schulman 2020): k1 = -r, k3 = exp(r) - r - 1, with r = reference
    - policy."""
    r_BT = reference_BT - old_BT
    return -r_BT if estimator == "k1" else r_BT.exp() - r_BT - 1


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
    """-coefficient * KL at every token of the answer, and the answer's score at its last one: (B, T)."""
    rewards_BT = torch.where(mask_BT, -coefficient * kl_BT, 0.0)
    if not mask_BT.numel():
        return rewards_BT  # a rank without prompts
    columns = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, columns, 0).amax(dim=1)
    return rewards_BT.scatter_add(1, last_B[:, None], torch.where(mask_BT.any(dim=1), scores_B, 0.0)[:, None])


def generalised_advantages(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns) by GAE (Schulman et al. 2016), both (B, T) and 0 outside the mask; returns = advantages + values.
    Nothing follows an answer's last token, whether it ended or was cut: its next value is 0."""
    exact = rewards_BT.double(), values_BT.double()
    following_B = torch.zeros(len(rewards_BT), dtype=torch.float64, device=rewards_BT.device)
    next_value_B, columns = following_B, []
    for t in reversed(range(rewards_BT.shape[1])):
        here_B = mask_BT[:, t]
        delta_B = exact[0][:, t] + gamma * next_value_B - exact[1][:, t]
        following_B = torch.where(here_B, delta_B + gamma * gae_lambda * following_B, following_B)
        next_value_B = torch.where(here_B, exact[1][:, t], next_value_B)
        columns.append(torch.where(here_B, following_B, 0.0))
    advantages_BT = torch.stack(columns[::-1], dim=1) if columns else exact[0]
    return advantages_BT.float(), torch.where(mask_BT, advantages_BT + exact[1], 0.0).float()


def whitened(advantages_BT: Tensor, mask_BT: Tensor, mean: float, variance: float) -> Tensor:
    """(advantage - mean) / sqrt(variance + 1e-8) where the mask is, as in TRL and open-instruct."""
    return torch.where(mask_BT, (advantages_BT - mean) / (variance + _EPSILON) ** 0.5, 0.0)


def policy_token_loss(new_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, clip: float) -> Tensor:
    """The clipped surrogate, to be minimised, per token (Schulman et al. 2017, equation 7)."""
    ratio_BT = (new_BT - old_BT).exp()
    return torch.maximum(-advantages_BT * ratio_BT, -advantages_BT * ratio_BT.clamp(1 - clip, 1 + clip))


def clipped_tokens(new_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, clip: float) -> Tensor:
    """Where the clip has removed the gradient, (B, T)."""
    ratio_BT = (new_BT - old_BT).exp()
    return ((advantages_BT > 0) & (ratio_BT > 1 + clip)) | ((advantages_BT < 0) & (ratio_BT < 1 - clip))


def value_token_loss(new_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, clip: float) -> Tensor:
    """Half the squared error; with `clip` the larger one of the value and of the value kept within `clip` of the old one."""
    error_BT = (new_BT - returns_BT).square()
    if not clip:
        return 0.5 * error_BT
    near_BT = old_BT + (new_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum(error_BT, (near_BT - returns_BT).square())
