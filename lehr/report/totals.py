"""What the model took, as numbers for other programs: footprint.json."""

from __future__ import annotations

from typing import Any

from lehr.report.data import ReportData
from lehr.runtime.energy import label


def footprint(data: ReportData) -> dict[str, Any]:
    """Energy, carbon and water of all that the run's report counts; None where it is not known. Units stand in the names."""
    return {
        "seconds": data.seconds,
        "it_joules": data.it_energy,
        "it_joules_by_source": data.energy,
        "facility_joules": data.facility_energy,
        "carbon_kg": data.carbon_kg,
        "water_liters": data.water_liters,
        "missing": data.energy_gaps,
        "site": data.site.model_dump() if data.site else None,
        "stages": {
            s.name: {
                "digest": s.digest,
                "seconds": s.seconds,
                "it_joules": s.it_energy,
                "attempts": s.attempts,
                "machines": s.machines,
            }
            for s in data.stages
        },
        "unfinished": {
            one.name: {"seconds": one.seconds, "it_joules": sum(one.energy.values()), "it_joules_by_source": one.energy}
            for one in data.unfinished
        },
    }


# Of footprint.json: the metric of the run as a whole, beside the stages' `stage_energy_joules`.
TOTALS = {
    "it_joules": "run_energy_joules",
    "facility_joules": "run_facility_joules",
    "carbon_kg": "run_carbon_kg",
    "water_liters": "run_water_liters",
}


def run_totals(data: ReportData) -> tuple[dict[str, float], dict[str, str]]:
    """The same for a tracker: metrics of those totals that are known, and tags with the energy's source and what it lacks."""
    found = footprint(data)
    values = {name: float(found[key]) for key, name in TOTALS.items() if found[key] is not None}
    # "none" and not empty: a tag of an earlier publication would stay.
    return values, {"energy.source": label(data.energy), "energy.missing": "; ".join(found["missing"]) or "none"}
