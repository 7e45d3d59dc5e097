"""What is scored, how often, and with how many examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lehr.config.base import Config, NonNegative, Positive


class TaskPlan(Config):
    """One evaluation task, scored on `limit` examples of each split at the stages that it applies to. `task` is a name, or the
    path of a YAML file of your own, relative to the recipe (docs/evaluation.md)."""

    task: str
    limit: Positive = 200
    splits: list[Literal["dev", "held_out"]] = Field(default=["held_out"], min_length=1)
    stages: Literal["all", "pretrained", "chat"] = "all"


class Baselines(Config):
    """Baselines for a model's bits per byte: token n-grams and a compressor that read the same tokens. They are made for stage1
    and for the last pretrained model, with what that and its ancestors read; a run that begins with a base has none."""

    orders: list[Annotated[int, Field(ge=2, le=6)]] = Field(default=[3, 4], min_length=1)  # 3: trigrams
    compressor: bool = True  # xz: the bytes that the texts add when compressed after what was read
    most_tokens: Positive = 8_000_000  # counted at most, with some 150 bytes of memory each: the first ones read

    @field_validator("orders")
    @classmethod
    def _distinct(cls, orders: list[int]) -> list[int]:
        if len(set(orders)) != len(orders):
            raise ValueError(f"{orders} names an order twice; remove one")
        return orders


class Evaluation(Config):
    tasks: list[TaskPlan] = Field(min_length=1)
    baselines: Baselines | None = None
    headline: list[str] = []  # `task/metric` of the scores at the top of the report, in order; empty: one of each task
    max_new_tokens: Positive = 56
    processes: NonNegative = 0  # of each stage that scores; 0: as many as parallel.processes
    in_loop_steps: NonNegative = 100  # interval, in pretraining steps, of evaluating `prose` on dev; 0: never
