"""Shares by source: what a pretraining stage reads."""

from __future__ import annotations

from pydantic import Field

from lehr.config.base import Config, PositiveFloat, Reported
from lehr.config.names import Name


class Mix(Config):
    """Shares by source. `weights` need not sum to one; `max_epochs` caps how often a source may repeat.

    `reported` holds facts of a released model's mix that nothing here executes: `epochs`, how often one pass of it reads each
    source (0.5: half of it, 4: four times). Drawing follows `weights`.
    """

    weights: dict[Name, PositiveFloat] = Field(min_length=1)
    max_epochs: PositiveFloat = 8.0
    reported: Reported = {}
