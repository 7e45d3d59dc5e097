"""Plan against reality: what `lehr plan` said of each stage, beside what the stage took."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.report import format as fmt
from lehr.report.data import PlannedStage, Point, ReportData, StageReport


@dataclass(frozen=True)
class Planned:
    """Planned and measured, of stages that have both and of these together. `absent` names planned stages that did not run."""

    lede: str
    pairs: list[tuple[PlannedStage, StageReport]]
    together: tuple[PlannedStage, StageReport]
    absent: list[str]


def planned_and_measured(data: ReportData) -> Planned | None:
    """Nothing without a plan."""
    pairs = [(p, s) for p in data.plan if (s := data.stage(p.name)) is not None]
    sums = _together(pairs)
    absent = [p.name for p in data.plan if data.stage(p.name) is None]
    return Planned(_lede(*sums), pairs, sums, absent) if data.plan else None


def _lede(planned: PlannedStage, real: StageReport) -> str:
    text = f"Training was planned to take {fmt.duration(planned.seconds)} and took {fmt.duration(real.seconds)}"
    if real.it_energy is not None:
        text += f"; energy was planned at {fmt.energy(planned.energy_joules)} and came to {fmt.energy(real.it_energy)}"
    return f"{text}."


def _together(pairs: list[tuple[PlannedStage, StageReport]]) -> tuple[PlannedStage, StageReport]:
    sums = {field: sum(getattr(s, field) for _, s in pairs) for field in ("tokens", "seconds", "flops")}
    sums["energy_joules"] = sum(s.it_energy or 0.0 for _, s in pairs)
    metered = all(s.it_energy is not None for _, s in pairs)
    curves: list[Point] = [{"step": float(sum(s.steps for _, s in pairs))}]
    real = StageReport(name="together", energy_source="together" if metered else "none", curves=curves, **sums)
    planned = {field: sum(getattr(p, field) for p, _ in pairs) for field in (*sums, "steps")}
    return PlannedStage(name="together", **planned), real
