"""Plan against reality: what `lehr plan` said of each stage, beside what the stage took."""

from __future__ import annotations

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.data import PlannedStage, ReportData, StageReport
from lehr.report.format import esc

_MEASURED = "measured"
_HEAD = ["stage", "tokens planned", _MEASURED, "steps", _MEASURED, "time", _MEASURED, "ratio", "FLOPs", _MEASURED]
_HEAD += ["IT energy", _MEASURED, "ratio"]


def plan_section(data: ReportData) -> str:
    """One row a stage that trains, planned and measured beside each other, and their sums over stages that have both."""
    if not data.plan:
        return ""
    pairs = [(p, s) for p in data.plan if (s := data.stage(p.name)) is not None]
    rows = [_row(esc(p.name), p, s) for p, s in pairs]
    if pairs:
        rows.append([f"<strong>{cell}</strong>" for cell in _row("together", *_together(pairs))])
    absent = [p.name for p in data.plan if data.stage(p.name) is None]
    note = "Ratios are measured over planned. "
    note += f"The plan counts {data.plan_basis}. " if data.plan_basis else ""
    note += "Token counts of chat stages are estimated before there is a tokenizer. "
    note += f"Not in this run: {', '.join(absent)}. " if absent else ""
    rest = data.seconds - sum(s.seconds for _, s in pairs)
    note += f"Stages that train nothing are not planned; they took {fmt.duration(rest)}."
    table = markup.table(_HEAD, rows) if rows else markup.missing("None of the planned stages has run.")
    return markup.section("plan", "Plan and reality", table + markup.caption(note), _lede(pairs))


def _lede(pairs: list[tuple[PlannedStage, StageReport]]) -> str:
    if not pairs:
        return ""
    planned, real = _together(pairs)
    text = f"Training was planned to take {fmt.duration(planned.seconds)} and took {fmt.duration(real.seconds)}"
    if real.it_energy is not None:
        text += f"; energy was planned at {fmt.energy(planned.energy_joules)} and came to {fmt.energy(real.it_energy)}"
    return f"{text}."


def _together(pairs: list[tuple[PlannedStage, StageReport]]) -> tuple[PlannedStage, StageReport]:
    planned = PlannedStage(
        name="together",
        tokens=sum(p.tokens for p, _ in pairs),
        steps=sum(p.steps for p, _ in pairs),
        seconds=sum(p.seconds for p, _ in pairs),
        flops=sum(p.flops for p, _ in pairs),
        energy_joules=sum(p.energy_joules for p, _ in pairs),
    )
    metered = all(s.it_energy is not None for _, s in pairs)
    real = StageReport(
        name="together",
        tokens=sum(s.tokens for _, s in pairs),
        seconds=sum(s.seconds for _, s in pairs),
        flops=sum(s.flops for _, s in pairs),
        energy_joules=sum(s.it_energy or 0.0 for _, s in pairs) if metered else None,
        energy_source="together" if metered else "none",
        curves=[{"step": float(sum(_steps(s) for _, s in pairs))}],
    )
    return planned, real


def _steps(stage: StageReport) -> int:
    """Steps that the stage's log ends with; 0 without a log."""
    return int(max((point.get("step") or 0.0 for point in stage.curves), default=0.0))


def _row(name: str, planned: PlannedStage, real: StageReport) -> list[str]:
    energy = real.it_energy
    steps = _steps(real)
    return [
        name,
        fmt.count(planned.tokens),
        fmt.count(real.tokens),
        f"{planned.steps:,}",
        f"{steps:,}" if steps else "–",
        fmt.duration(planned.seconds),
        fmt.duration(real.seconds),
        _ratio(real.seconds, planned.seconds),
        fmt.number(planned.flops),
        fmt.number(real.flops),
        fmt.energy(planned.energy_joules),
        fmt.energy(energy, planned.energy_joules) if energy is not None else "not recorded",
        _ratio(energy, planned.energy_joules),
    ]


def _ratio(real: float | None, planned: float) -> str:
    return f"{real / planned:.2f}" if real is not None and planned else "–"
