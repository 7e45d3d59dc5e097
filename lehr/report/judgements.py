"""What reward models are worth, and what best-of-N brought, as the report has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")  # the artifact's own file says more


class PairsJudged(_Model):
    """Held-out pairs that a reward put into the right order: a share, with its standard error over their prompts."""

    pairs: int = 0
    accuracy: float = 0.5
    stderr: float | None = None

    @property
    def errors_above_chance(self) -> float | None:
        """By how many standard errors the accuracy is above one half; None where there is no error."""
        return (self.accuracy - 0.5) / self.stderr if self.stderr else None


class CalibrationBin(_Model):
    """Pairs of whose order a reward is about equally sure: the share of right ones that it expects, and that observed."""

    pairs: int
    expected: float
    observed: float


class AspectJudged(_Model):
    """One aspect's weight in the reward; on held-out answers the mean distance from the rating and the correlation with it."""

    weight: float
    answers: int
    error: float | None = None
    correlation: float | None = None


class RewardReport(PairsJudged):
    """A reward model or contrast on held-out pairs; without any, `pairs` is 0."""

    loss: str
    domains: dict[str, PairsJudged] = {}
    calibration: list[CalibrationBin] = []
    calibration_error: float | None = None
    length_correlation: float | None = None
    aspects: dict[str, AspectJudged] = {}


class BestOfPoint(_Model):
    """The best of `n` answers, a mean over prompts: its score in the ensemble, and the verifiers' judgement of it over the `of`
    prompts that have one."""

    n: int
    score: float | None = None
    verified: float | None = None
    stderr: float | None = None
    of: int = 0


def judged(meta: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report's `rewards` and `best_of_n` from what the artifacts say, by stage."""
    rewards = {name: RewardReport(**said["reward"]) for name, said in meta.items() if said.get("reward")}
    curves = {name: said["best_of_n"]["curve"] for name, said in meta.items() if said.get("best_of_n")}
    return {"rewards": rewards, "best_of_n": {name: [BestOfPoint(**p) for p in curve] for name, curve in curves.items()}}
