"""Hours, energy, carbon, water and money of an amount of work, by the formulas of the four reports.

Energy at the building = GPU-hours x watts x PUE (Granite 3.0 section 6, Stable LM 2 section 7.1), or measured IT energy x
PUE; carbon = that x grid intensity; water = that x (WUE on site + WUE off site) (OLMo 1 appendix B, OLMo 2 section 6.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lehr.config.hardware import Hardware, Reported
from lehr.config.site import Site
from lehr.planning.work import Work
from lehr.report.footprint import JOULES_PER_KWH, ItJoules, carbon_kg, facility_energy, kwh, water_liters


@dataclass(frozen=True)
class StageCost:
    """What one stage takes. `kwh` is the building's energy, `it_kwh` the machines' own; a GPU-hour is an hour of one
    accelerator. `reported` names what stands in the report instead of being estimated."""

    work: Work
    gpu_hours: float
    seconds: float
    it_kwh: float
    kwh: float
    co2_kg: float
    water_l: float
    cost: float
    mfu: float
    reported: tuple[str, ...] = ()

    def row(self) -> dict[str, float | str | list[str]]:
        """The stage's entry in the JSON."""
        w = self.work
        named: dict[str, float | str | list[str]] = {"name": w.name, "tokens": w.tokens, "steps": w.steps}
        own = {k: getattr(self, k) for k in ("gpu_hours", "kwh", "co2_kg", "water_l", "cost")}
        more = {"flops": w.flops, "seconds": self.seconds, "it_kwh": self.it_kwh, "mfu": self.mfu}
        return {**named, **own, **more, "tokens_are": w.how, "reported": list(self.reported)}


SUMMED = ("tokens", "steps", "gpu_hours", "kwh", "co2_kg", "water_l", "cost", "flops", "seconds", "it_kwh")


def costs(works: Sequence[Work], hardware: Hardware, site: Site) -> list[StageCost]:
    """The cost of each stage at the stated utilisation, or as a report has it."""
    shares = _shares(works, hardware.reported)
    return [_cost(work, hardware, site, shares.get(work.name, 0.0)) for work in works]


def _shares(works: Sequence[Work], reported: Reported | None) -> dict[str, float]:
    """Each covered stage's part of what was reported, by FLOPs."""
    if reported is None:
        return {}
    covered = [w for w in works if (w.name in reported.stages if reported.stages else w.kind == "pretraining")]
    whole = sum(w.flops for w in covered)
    return {w.name: w.flops / whole for w in covered}


def _cost(work: Work, hardware: Hardware, site: Site, share: float) -> StageCost:
    said: list[str] = []
    mfu = hardware.stage_mfu.get(work.name, hardware.mfu)
    hours = work.flops / (hardware.peak_tflops * 1e12 * mfu) / 3600
    if share and hardware.reported and hardware.reported.gpu_hours:
        said.append("gpu_hours")
        hours = hardware.reported.gpu_hours * share
        mfu = work.flops / (hours * 3600 * hardware.peak_tflops * 1e12)
    it_kwh = hours * hardware.watts / 1000
    if share and hardware.reported and hardware.reported.it_kwh:
        said.append("it_kwh")
        it_kwh = hardware.reported.it_kwh * share
    building = facility_energy(ItJoules(it_kwh * JOULES_PER_KWH), site.pue)
    return StageCost(
        work=work,
        gpu_hours=hours,
        seconds=hours * 3600 / hardware.count,
        it_kwh=it_kwh,
        kwh=kwh(building),
        co2_kg=carbon_kg(building, site.carbon_kg_per_kwh),
        water_l=water_liters(building, site.water_liters_per_kwh),
        cost=hours * hardware.price_per_hour,
        mfu=mfu,
        reported=tuple(said),
    )
