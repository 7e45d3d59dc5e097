"""Shares by source: what a pretraining stage reads."""

from __future__ import annotations

from pydantic import Field, model_validator

from lehr.config.base import Config, PositiveFloat


class Mix(Config):
    """Shares by source. `weights` need not sum to one; `max_epochs` caps how often a source may repeat.

    `epochs` is how often a report says that one pass of its mix reads each source (0.5: half of it, 4: four times). Drawing
    follows `weights`; `epochs` is there to be compared, and may not go beyond `max_epochs`.
    """

    weights: dict[str, PositiveFloat] = Field(min_length=1)
    epochs: dict[str, PositiveFloat] = {}
    max_epochs: PositiveFloat = 8.0

    @model_validator(mode="after")
    def _epochs_fit(self) -> Mix:
        for source, times in self.epochs.items():
            if source not in self.weights:
                raise ValueError(f"epochs.{source}: this mix does not draw from {source!r}; give it a weight, or take it out")
            if times > self.max_epochs:
                raise ValueError(f"epochs.{source}={times} is more than max_epochs={self.max_epochs}; change one of them")
        return self
