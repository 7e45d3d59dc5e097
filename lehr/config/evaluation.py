"""What is scored, how often, and with how many examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lehr.config.base import Config, NonNegative, Positive


class TaskPlan(Config):
    """One evaluation task, scored on `limit` examples of each split at the stages that it applies to."""

    task: str
    limit: Positive = 200
    splits: list[Literal["dev", "held_out"]] = Field(default=["held_out"], min_length=1)
    stages: Literal["all", "pretrained", "chat"] = "all"


class Baselines(Config):
    """What a model's bits per byte are to be compared with: token n-grams and a compressor that read the same tokens. Made of
    what stage1 read, and of what the last pretrained model and its ancestors did; a run that begins with a base has none."""

    orders: list[Annotated[int, Field(ge=2, le=6)]] = Field(default=[3, 4], min_length=1)  # 3: trigrams
    compressor: bool = True  # xz, as the bytes that the texts add to those that were read
    most_tokens: Positive = 8_000_000  # that are counted: of more, those that were read first

    @field_validator("orders")
    @classmethod
    def _distinct(cls, orders: list[int]) -> list[int]:
        if len(set(orders)) != len(orders):
            raise ValueError(f"{orders} names an order twice; leave one out")
        return orders


class Evaluation(Config):
    tasks: list[TaskPlan] = Field(min_length=1)
    baselines: Baselines | None = None
    headline: list[str] = []  # `task/metric` of the scores that the report begins with, in order; empty: one of each task
    max_new_tokens: Positive = 56
    in_loop_steps: NonNegative = 100  # evaluate `prose` on dev every so many pretraining steps; 0: never
