"""How training computes and how often it looks at itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lehr.config.base import Config, NonNegative, Positive

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "off", "on"]


class Watch(Config):
    """How often training looks at itself, in steps, and which saves it keeps. No result depends on it, and no fingerprint."""

    model_config = ConfigDict(frozen=True)

    norm_steps: Positive = 20  # norms of the embedding and of the gradients by kind of parameter
    metrics_steps: Positive = 1  # what only the log needs: 1 with each step's sums; more: of so many steps at once, beside them
    collect_steps: Positive = 100  # Python's garbage
    keep_saves: Annotated[int, Field(ge=2)] = 2  # of those at a stage's checkpoint_steps; the newest of all stays anyway
    keep_saves_every_steps: NonNegative = 0  # these stay until the stage ends; 0: none
