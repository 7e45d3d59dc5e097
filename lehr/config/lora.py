"""Low-rank adapters of a post-training step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lehr.config.base import Config, Positive, PositiveFloat

Target = Literal["qkv", "out", "gate_up", "down"]


class Lora(Config):
    """Low-rank adapters (Hu et al. 2021): each matrix W of the targets is frozen and gets alpha / rank * B A beside it, of
    which A and B alone are trained. Embeddings, norms, head, router and experts stay as they are. Query, key and value are
    one matrix here, and so are a gate and its up-projection: they share an A."""

    rank: Positive = 8
    alpha: PositiveFloat = 8.0
    targets: list[Target] = Field(default=["qkv", "out", "gate_up", "down"], min_length=1)
