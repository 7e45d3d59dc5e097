"""The site of a run: constants for energy, carbon and water."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegativeFloat


class Site(Config):
    """Constants of the site where a run takes place, for energy and carbon (OLMo 2 section 6.5)."""

    cpu_watts_per_core: NonNegativeFloat = 7.0
    pue: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    carbon_kg_per_kwh: NonNegativeFloat = 0.35
    water_onsite_liters_per_kwh: NonNegativeFloat = 0.0  # water usage effectiveness of the cooling
    water_offsite_liters_per_kwh: NonNegativeFloat = 0.0  # water usage effectiveness of the power generation
    water_liters_per_kwh: NonNegativeFloat = 0.0  # their sum, if it is only known as such
    citation: str = "estimate"

    @model_validator(mode="after")
    def _water(self) -> Site:
        both = self.water_onsite_liters_per_kwh + self.water_offsite_liters_per_kwh
        if both and self.water_liters_per_kwh not in (0.0, both):
            raise ValueError(
                f"water_liters_per_kwh={self.water_liters_per_kwh} is not the sum {both:g} of "
                "water_onsite_liters_per_kwh and water_offsite_liters_per_kwh; leave it out"
            )
        self.water_liters_per_kwh = both or self.water_liters_per_kwh
        return self
