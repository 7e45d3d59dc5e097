"""What the model took, as numbers for other programs: footprint.json."""

from __future__ import annotations

from typing import Any

from lehr.report.data import ReportData


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
        "unfinished": {one.name: {"seconds": one.seconds, "it_joules": sum(one.energy.values())} for one in data.unfinished},
    }
