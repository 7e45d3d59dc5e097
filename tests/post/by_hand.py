"""PPO written a second time, answer by answer in NumPy and fp64, from the papers' formulas: what lehr.post.ppo must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Answer:
    """One answer's tokens: log-probabilities under the policy that answered and under the reference, values before each token,
    and the reward of the whole."""

    old: Array
    reference: Array
    values: Array
    reward: float


def kl(answer: Answer, estimator: str) -> Array:
    """Schulman 2020: the log of the ratio q / p, or (r - 1) - log r with r = p / q, of samples from q = the policy."""
    if estimator == "k1":
        return answer.old - answer.reference
    ratio = np.exp(answer.reference) / np.exp(answer.old)
    return (ratio - 1) - np.log(ratio)


def advantages(answer: Answer, coefficient: float, estimator: str, gamma: float, lam: float) -> Array:
    """GAE as its defining sum over all later TD residuals (Schulman et al. 2016, equation 16), not as the recursion."""
    n = len(answer.old)
    rewards = -coefficient * kl(answer, estimator)
    rewards[n - 1] += answer.reward
    following = np.append(answer.values[1:], 0.0)
    residuals = rewards + gamma * following - answer.values
    return np.array([sum((gamma * lam) ** (later - t) * residuals[later] for later in range(t, n)) for t in range(n)])


def whitened(all_advantages: Sequence[Array]) -> list[Array]:
    """Standardised over every token of every answer."""
    flat = np.concatenate(all_advantages)
    return [(a - np.mean(flat)) / np.sqrt(np.var(flat, ddof=1) + 1e-8) for a in all_advantages]


def policy_loss(new: Array, old: Array, advantage: Array, clip: float) -> tuple[float, Array, int]:
    """(sum of the clipped surrogate's losses, its derivative by each `new`, number of tokens that the clip stops)."""
    loss, slope, held = 0.0, np.zeros(len(new)), 0
    for t, a in enumerate(advantage):
        ratio = np.exp(new[t] - old[t])
        edge = 1 + clip if a > 0 else 1 - clip
        if (ratio - edge) * a > 0:  # further than the edge, in the direction in which the gain grows
            loss, held = loss - edge * a, held + 1
        else:
            loss, slope[t] = loss - ratio * a, -ratio * a
    return loss, slope, held


def value_loss(new: Array, old: Array, returns: Array, clip: float) -> tuple[float, Array]:
    """(sum of half the larger squared error, its derivative by each `new`)."""
    loss, slope = 0.0, np.zeros(len(new))
    for t, target in enumerate(returns):
        kept = min(max(new[t], old[t] - clip), old[t] + clip) if clip else new[t]
        free, near = (new[t] - target) ** 2, (kept - target) ** 2
        loss += max(free, near) / 2
        slope[t] = new[t] - target if free >= near else 0.0  # a value that was kept back has no derivative
    return loss, slope
