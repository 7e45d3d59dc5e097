"""How training computes, and how often it logs and saves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lehr.config.base import Config, NonNegative, Positive

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "off", "on"]


class Watch(Config):
    """How often training logs, in steps, and which saves it keeps. Affects neither a result nor a fingerprint."""

    model_config = ConfigDict(frozen=True)

    norm_steps: Positive = 20  # norms of the embedding and of the gradients by kind of parameter
    metrics_steps: Positive = 1  # reduction of log-only metrics: 1: with each step's sums; more: for so many steps at once
    collect_steps: Positive = 100  # interval of Python's garbage collection
    # Two at least: one that is damaged has another before it.
    keep_saves: Annotated[int, Field(ge=2)] = 2  # of those at a stage's checkpoint_steps; the newest of all is always kept
    keep_saves_every_steps: NonNegative = 0  # saves at its multiples are kept until the stage ends; 0: none
    copy_steps: NonNegative = 0  # interval of copies in the machines' memory, in between saves (LEHR_MEMORY_COPIES); 0: none
