"""Where it came from and what it took: data, lineage, energy, reproduction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from lehr.report import format as fmt
from lehr.report import lineage
from lehr.report.charts import stage_colours
from lehr.report.data import ReportData, StageReport
from lehr.report.footprint import ItJoules
from lehr.report.headline import measured
from lehr.report.inputs import REVIEWED, SourceFunnel

_REASON_COLOURS = ("var(--r1)", "var(--r2)", "var(--r3)", "var(--r4)", "var(--r5)")
_KEPT = "var(--kept)"
_GAPS = 8  # of what is missing from the energy, as many as are shown
Part = tuple[float, str, str]  # share, colour, tooltip


@dataclass(frozen=True)
class Sources:
    """Each source's documents as a bar, with the reasons for which some were dropped, the most frequent first; and the trees of
    mixes with the stages that they are of."""

    legend: list[tuple[str, str]]
    bars: dict[str, list[Part]]
    reasons: list[str]
    damaged: list[tuple[str, int, str]]  # source, how many rows or files could not be read, and why
    reviews: list[list[str]]  # of each reviewed source: its name, then what REVIEWED names
    mixes: dict[str, list[str]]


def sources(data: ReportData) -> Sources | None:
    """Nothing where neither documents nor mixes are recorded."""
    totals = Counter[str]()
    for source in data.funnel.values():
        totals.update(source.dropped)
    ranked = sorted(totals, key=lambda reason: -totals[reason])
    colours = {reason: _REASON_COLOURS[min(i, len(_REASON_COLOURS) - 1)] for i, reason in enumerate(ranked)}
    named = ranked[: len(_REASON_COLOURS) - 1]
    legend = [("kept", _KEPT), *((fmt.words(r), colours[r]) for r in named)]
    if rest := ranked[len(named) :]:
        legend.append((fmt.words(rest[0]) if len(rest) == 1 else f"{len(rest)} other reasons", _REASON_COLOURS[-1]))
    mixes: dict[str, list[str]] = {}
    for name, tree in data.mixes.items():  # anneals of one mix differ in their order alone
        mixes.setdefault(tree, []).append(name)
    bars = {name: _parts(source, colours) for name, source in data.funnel.items()}
    reviews = [[name, *(s.review.get(key) or "–" for key in REVIEWED)] for name, s in data.funnel.items() if s.review]
    damaged = [(name, number, why) for name, s in data.funnel.items() for why, number in s.damaged.items()]
    return Sources(legend, bars, ranked, damaged, reviews, mixes) if bars or mixes else None


def _parts(source: SourceFunnel, colours: dict[str, str]) -> list[Part]:
    whole = max(source.read, 1)
    dropped = [(source.dropped[r], colour, fmt.words(r)) for r, colour in colours.items() if r in source.dropped]
    return [(n / whole, colour, f"{why}: {n:,}") for n, colour, why in [(source.kept, _KEPT, "kept"), *dropped]]


def timeline(data: ReportData) -> list[tuple[StageReport, float, float]] | None:
    """Stages one after the other: when each began and how long it took, as shares of the whole; none too short to be seen."""
    total = sum(s.seconds for s in data.stages) or 1.0
    begins = accumulate((s.seconds for s in data.stages), initial=0.0)
    spans = zip(data.stages, begins, strict=False)
    return [(s, min(begin / total, 0.997), max(s.seconds / total, 0.003)) for s, begin in spans] or None


def drawing(data: ReportData) -> Markup | None:
    """The lineage without scores, which are leaves without number. Nothing without stages."""
    drawn = {s.name: [p.name for p in data.parents_of(s)] for s in data.stages if s.kind != "scores"}
    notes = {s.name: f"{s.kind if s.kind != s.name else ''} {s.digest[:8]}".strip() for s in data.stages}
    return lineage.draw(drawn, notes, stage_colours(data)) if data.stages else None


@dataclass(frozen=True)
class Cost:
    """What stands around the table of time and energy; bars are relative to the largest stage, in seconds and joules."""

    lede: str
    constants: str
    most_seconds: float
    most_joules: float
    lost: Lost | None
    gaps: list[str]


@dataclass(frozen=True)
class Lost:
    """Work that led to no artifact, together."""

    name: str
    seconds: float
    it: ItJoules | None


def lost(data: ReportData) -> Lost | None:
    """None where all of it led to something."""
    if not data.unfinished:
        return None
    energy = [sum(one.energy.values()) for one in data.unfinished if one.energy]
    attempts = sum(one.attempts for one in data.unfinished)
    name = f"{attempts} attempt{'s' if attempts != 1 else ''} that led to nothing"
    return Lost(name, sum(one.seconds for one in data.unfinished), ItJoules(sum(energy)) if energy else None)


def cost(data: ReportData) -> Cost | None:
    """Nothing without stages."""
    most_seconds = max((s.seconds for s in data.stages), default=0.0) or 1.0
    most_joules = max((s.it_energy or 0.0 for s in data.stages), default=0.0) or 1.0
    found = Cost(_energy_lede(data), _constants(data), most_seconds, most_joules, lost(data), data.energy_gaps[:_GAPS])
    return found if data.stages else None


def _energy_lede(data: ReportData) -> str:
    if data.it_energy is None:
        return "No energy was recorded."
    text = f"{fmt.energy(data.it_energy)} of IT energy, {measured(data)}"
    if data.carbon_kg is not None:
        text += f"; {fmt.energy(data.facility_energy)} at the building, {fmt.mass(data.carbon_kg)} of CO₂ equivalent"
    if data.water_liters is not None:
        text += f", {fmt.volume(data.water_liters)} of water"
    return f"{text}.{counted(data)}"


def counted(data: ReportData) -> str:
    """How many machines and attempts the figures are of, as a sentence; nothing where each stage took one."""
    machines = max((s.machines for s in data.stages), default=1)
    again = sum(s.attempts - 1 for s in data.stages)
    parts = [f"up to {machines} machines a stage"] if machines > 1 else []
    parts += [f"{again} attempt{'s' if again != 1 else ''} that had to be repeated"] if again else []
    return f" Counted over {' and '.join(parts)}." if parts else ""


def _constants(data: ReportData) -> str:
    """The site's, as a sentence; nothing where there are none."""
    if (s := data.site) is None:
        return ""
    water = f", {s.water_liters_per_kwh:g} L water per kWh" if s.water_liters_per_kwh else ""
    source = f" ({s.citation})" if s.citation else ""
    return f"Constants: PUE {s.pue:g}, {s.carbon_kg_per_kwh:g} kg CO₂e per kWh{water}{source}."


def environment(data: ReportData) -> dict[str, Any]:
    """What is known of the environment, and the seed."""
    known = {**data.environment.model_dump(exclude={"command"}), "seed": data.seed}
    return {name: value for name, value in known.items() if value not in ("", None)}
