"""Shares by source: the data of a pretraining stage."""

from __future__ import annotations

from pydantic import Field

from lehr.config.base import Config, PositiveFloat, Reported
from lehr.config.names import Name


class Mix(Config):
    """Shares by source. `weights` need not sum to one; `max_epochs` limits how often a source may repeat.

    `reported` holds facts about a released model's mix that no code uses: `epochs`, how often one pass of it reads each source
    (0.5: half of it, 4: four times). Sources are drawn by `weights`.
    """

    weights: dict[Name, PositiveFloat] = Field(min_length=1)
    max_epochs: PositiveFloat = 8.0
    reported: Reported = {}
