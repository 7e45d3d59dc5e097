"""What is scored, how often, and with how many examples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lehr.config.base import Config, NonNegative, Positive


class TaskPlan(Config):
    """One evaluation task, scored on `limit` examples of each split at the stages that it applies to."""

    task: str
    limit: Positive = 200
    splits: list[Literal["dev", "held_out"]] = Field(default=["held_out"], min_length=1)
    stages: Literal["all", "pretrained", "chat"] = "all"


class Evaluation(Config):
    tasks: list[TaskPlan] = Field(min_length=1)
    max_new_tokens: Positive = 56
    in_loop_steps: NonNegative = 100  # evaluate `prose` on dev every so many pretraining steps; 0: never
