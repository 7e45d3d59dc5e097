"""Energy to carbon and water, with the one confusion of the field made a type error: IT energy is not facility energy.

Source: OLMo 2 section 6.5. CO2 = P x PUE x intensity; water = P x PUE x (WUE on site + WUE off site). The column "power
consumption" is IT energy in OLMo 2 (Table 19) and facility energy in Granite 3.0 (Table 7).
"""

from __future__ import annotations

from typing import NewType

ItJoules = NewType("ItJoules", float)  # drawn by processors, before cooling and conversion losses
FacilityJoules = NewType("FacilityJoules", float)  # drawn by the building: IT energy x PUE

JOULES_PER_KWH = 3.6e6


def kwh(joules: ItJoules | FacilityJoules) -> float:
    return joules / JOULES_PER_KWH


def facility_energy(energy: ItJoules, pue: float) -> FacilityJoules:
    """`pue`: power usage effectiveness, at least 1."""
    if pue < 1:
        raise ValueError(f"pue={pue} is below 1: a building draws at least what its computers draw")
    return FacilityJoules(energy * pue)


def carbon_kg(energy: FacilityJoules, kg_per_kwh: float) -> float:
    """CO2 equivalent in kg, for the grid's intensity in kg per kWh."""
    return kwh(energy) * kg_per_kwh


def water_liters(energy: FacilityJoules, liters_per_kwh: float) -> float:
    """Water in litres; `liters_per_kwh` is the water usage effectiveness on site plus off site."""
    return kwh(energy) * liters_per_kwh
