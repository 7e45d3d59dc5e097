"""How good rewards are on held-out pairs: accuracy by domain, calibration, and what they owe to length. Shapes: B pairs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lehr.evals.estimate import ratio

_BINS = 5  # of the confidence between a half and one


@dataclass(frozen=True)
class Judged:
    """The rewards of both answers of held-out pairs, and the answers' lengths in tokens: all (B, 2), chosen first. Pairs of
    one `prompt` are not independent; `domains` are the pairs' families or sets."""

    rewards_B2: np.ndarray
    lengths_B2: np.ndarray
    domains: Sequence[str]
    prompts: Sequence[Hashable]

    def said(self) -> dict[str, Any]:
        """As JSON: accuracy of all pairs and by domain, calibration, correlation with length, and each domain's mean and
        standard deviation, by which scores are normalised."""
        names = list(dict.fromkeys(self.domains))
        of = np.array(self.domains)
        return {
            **self._accuracy(np.ones(len(of), dtype=bool)),
            "domains": {name: self._accuracy(of == name) for name in names},
            **self._calibration(),
            "length_correlation": correlation(self.rewards_B2.ravel(), self.lengths_B2.ravel()),
        }

    def _accuracy(self, here: np.ndarray) -> dict[str, Any]:
        """Equal rewards are half right: a model that says nothing is at chance."""
        chosen, rejected = self.rewards_B2[here].T
        right = np.where(chosen == rejected, 0.5, (chosen > rejected).astype(float))
        clusters = [prompt for prompt, mine in zip(self.prompts, here, strict=True) if mine]
        found = ratio(right.tolist(), [1.0] * len(right), clusters)
        both = self.rewards_B2[here]
        return {
            "pairs": int(here.sum()), "accuracy": found.value, "stderr": found.stderr,
            "mean": float(both.mean()), "std": float(both.std()),
        }  # fmt: skip

    def _calibration(self) -> dict[str, Any]:
        """By how sure the rewards are of their order: the share of right ones that Bradley-Terry expects, and that observed.
        `calibration_error` is their mean distance over the pairs (expected calibration error)."""
        margin_B = self.rewards_B2[:, 0] - self.rewards_B2[:, 1]
        sure_B = 1 / (1 + np.exp(-np.abs(margin_B)))
        right_B = np.where(margin_B == 0, 0.5, (margin_B > 0).astype(float))
        place_B = np.minimum(((sure_B - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
        bins = []
        for place in np.unique(place_B):
            here = place_B == place
            bins.append(
                {"pairs": int(here.sum()), "expected": float(sure_B[here].mean()), "observed": float(right_B[here].mean())}
            )
        error = sum(b["pairs"] * abs(b["expected"] - b["observed"]) for b in bins) / len(margin_B)
        return {"calibration": bins, "calibration_error": float(error)}


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    if len(a) < 2 or not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])
