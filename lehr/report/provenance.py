"""Where it came from and what it took: data, lineage, energy, reproduction."""

from __future__ import annotations

from lehr.report import format as fmt
from lehr.report import lineage, markup
from lehr.report.charts import stage_colours
from lehr.report.data import ReportData, SourceFunnel, StageReport
from lehr.report.footprint import facility_energy
from lehr.report.format import esc
from lehr.report.headline import measured

_REASON_COLOURS = ("var(--r1)", "var(--r2)", "var(--r3)", "var(--r4)", "var(--r5)")
_KEPT = "var(--kept)"


def funnel(data: ReportData) -> str:
    """Documents from read to kept with the reasons, then who made them and under which licence."""
    if not data.funnel:
        return markup.section("data", "Data", _mixes(data)) if data.mixes else ""
    totals: dict[str, int] = {}
    for source in data.funnel.values():
        for reason, n in source.dropped.items():
            totals[reason] = totals.get(reason, 0) + n
    ranked = sorted(totals, key=lambda reason: -totals[reason])
    colours = {reason: _REASON_COLOURS[min(i, len(_REASON_COLOURS) - 1)] for i, reason in enumerate(ranked)}
    named = ranked[: len(_REASON_COLOURS) - 1]
    entries = [("kept", _KEPT), *((_reason(r), colours[r]) for r in named)]
    if len(ranked) > len(named):
        rest = ranked[len(named) :]
        entries.append((_reason(rest[0]) if len(rest) == 1 else f"{len(rest)} other reasons", _REASON_COLOURS[-1]))
    bars = "".join(_funnel_row(name, source, colours) for name, source in data.funnel.items())
    read, kept = sum(s.read for s in data.funnel.values()), sum(s.kept for s in data.funnel.values())
    lede = f"{read:,} documents were read and {kept:,} kept ({_percent(kept, read)})."
    lede += " Every dropped one is on record with its reason."
    html = markup.legend(entries) + f'<div class="funnel">{bars}</div>'
    html += markup.caption(
        "Share of each source's documents that is kept, and why the others were dropped; point at a bar for counts."
    )
    return markup.section("data", "Data", html + _reasons(data, ranked) + _licences(data) + _mixes(data), esc(lede))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _reason(name: str) -> str:
    return name.replace("_", " ")


def _funnel_row(name: str, source: SourceFunnel, colours: dict[str, str]) -> str:
    whole = max(source.read, 1)
    parts = [(source.kept / whole, _KEPT, f"kept: {source.kept:,}")]
    parts += [
        (source.dropped[r] / whole, colour, f"{_reason(r)}: {source.dropped[r]:,}")
        for r, colour in colours.items()
        if r in source.dropped
    ]
    return (
        f'<div class="gantt-row"><span class="stage">{esc(name)}</span>{markup.bar(parts)}'
        f'<span class="num">{source.kept:,} of {source.read:,}</span></div>'
    )


def _reasons(data: ReportData, ranked: list[str]) -> str:
    if not ranked:
        return ""
    rows = [
        [esc(name), *(f"{s.dropped[r]:,}" if s.dropped.get(r) else '<span class="none">·</span>' for r in ranked)]
        for name, s in data.funnel.items()
    ]
    return markup.folded("Dropped documents by reason", markup.table(["source", *map(_reason, ranked)], rows))


def _licences(data: ReportData) -> str:
    rows = [
        [
            esc(name),
            esc(s.origin or "–"),
            esc(s.license or "not stated"),
            f"{s.kept:,}",
            fmt.count(s.characters),
            fmt.count(s.tokens) if s.tokens is not None else "–",
        ]
        for name, s in data.funnel.items()
    ]
    return "<h3>Origin and licence</h3>" + markup.table(
        ["source", "origin", "licence", "documents", "characters", "tokens"], rows, numeric_from=3
    )


def _mixes(data: ReportData) -> str:
    if not data.mixes:
        return ""
    alike: dict[str, list[str]] = {}
    for name, tree in data.mixes.items():  # anneals of one mix differ in their order alone
        alike.setdefault(tree, []).append(name)
    panels = [markup.panel(", ".join(names), markup.pre(tree)) for tree, names in alike.items()]
    return "<h3>Mixes</h3>" + markup.grid(panels, "mixes")


def graph(data: ReportData) -> str:
    """The drawing, and beside it the table with every parent and digest."""
    if not data.stages:
        return ""
    parents = {s.name: [p.name for p in data.parents_of(s)] for s in data.stages}
    drawn = {s.name: parents[s.name] for s in data.stages if s.kind != "scores"}  # leaves without number
    colours = stage_colours(data)
    notes = {s.name: f"{s.kind if s.kind != s.name else ''} {s.digest[:8]}".strip() for s in data.stages}
    rows = [[esc(s.name), esc(s.kind), markup.digest(s.digest), esc(", ".join(parents[s.name]) or "–")] for s in data.stages]
    table = markup.table(["stage", "kind", "digest", "made from"], rows, numeric_from=9)
    html = f'<div class="beside"><div class="scroll">{lineage.draw(drawn, notes, colours)}</div><div>{table}</div></div>'
    note = (
        "Each artifact below what it was made from. Scores, and lines that a longer way implies, are left out of the drawing, "
        "not of the table. A digest names the content: equal digests, equal weights."
    )
    return markup.section("lineage", "Lineage", html + markup.caption(note))


def cost(data: ReportData) -> str:
    """Time and energy per stage."""
    if not data.stages:
        return ""
    most_seconds = max(s.seconds for s in data.stages) or 1.0
    most_joules = max((s.it_energy or 0.0 for s in data.stages), default=0.0) or 1.0
    colours = stage_colours(data)
    rows = [_cost_row(s, data, most_seconds, most_joules, colours[s.name]) for s in data.stages]
    total = [
        "<strong>all stages</strong>",
        "",
        f"<strong>{fmt.duration(data.seconds)}</strong>",
        f"<strong>{fmt.count(data.tokens)}</strong>",
        "",
        "",
        f"<strong>{fmt.energy(data.it_energy)}</strong>",
        f"<strong>{fmt.energy(data.facility_energy)}</strong>",
    ]
    head = ["stage", "", "time", "tokens", "tokens/s", "", "IT energy", "facility energy"]
    return markup.section(
        "cost",
        "Time and energy",
        markup.table(head, [*rows, total], "cost", 2) + markup.caption(_energy_note(data)),
        _energy_lede(data),
    )


def _cost_row(stage: StageReport, data: ReportData, seconds: float, joules: float, colour: str) -> list[str]:
    it = stage.it_energy
    building = facility_energy(it, data.site.pue) if it is not None and data.site else None
    speed = fmt.count(stage.tokens / stage.seconds) if stage.tokens and stage.seconds else "–"
    return [
        esc(stage.name) + (' <span class="reused">reused</span>' if stage.reused else ""),
        markup.bar([(stage.seconds / seconds, colour, fmt.duration(stage.seconds))], css="thin"),
        fmt.duration(stage.seconds),
        fmt.count(stage.tokens) if stage.tokens else "–",
        speed,
        markup.bar([((it or 0.0) / joules, colour, fmt.energy(it))], css="thin") if it is not None else "",
        fmt.energy(it, joules) if it is not None else "not recorded",
        fmt.energy(building, joules),
    ]


def _energy_lede(data: ReportData) -> str:
    if data.it_energy is None:
        return "No energy was recorded."
    text = f"{fmt.energy(data.it_energy)} of IT energy, {esc(measured(data))}"
    if data.carbon_kg is not None:
        text += f"; {fmt.energy(data.facility_energy)} at the building, {fmt.mass(data.carbon_kg)} of CO₂ equivalent"
    if data.water_liters is not None:
        text += f", {fmt.volume(data.water_liters)} of water"
    return text + "."


def _energy_note(data: ReportData) -> str:
    text = "IT energy is what processors draw; facility energy is IT energy times the building's PUE. "
    text += "Bars are relative to the largest stage."
    if data.site:
        s = data.site
        text += f" Constants: PUE {s.pue:g}, {s.carbon_kg_per_kwh:g} kg CO₂e per kWh"
        text += f", {s.water_liters_per_kwh:g} L water per kWh" if s.water_liters_per_kwh else ""
        text += f" ({s.citation})." if s.citation else "."
    if "estimated" in data.energy_sources:
        text += (
            " Estimated figures are CPU seconds times an assumed power per core: they leave out memory, disks and idle draw."
        )
    return text


def reproduce(data: ReportData) -> str:
    """Command, versions, seeds, digests and the resolved recipe."""
    env = data.environment
    html = markup.pre(env.command) if env.command else markup.missing("The command is not recorded.")
    facts = {k: v for k, v in {**env.model_dump(), **(env.model_extra or {})}.items() if k != "command" and v not in ("", None)}
    if data.seed is not None:
        facts["seed"] = data.seed
    rows = [[esc(k.replace("_", " ")), f"<code>{esc(v)}</code>"] for k, v in facts.items()]
    html += markup.table(["", ""], rows, "facts", 9) if rows else markup.missing("Nothing is recorded about the environment.")
    made = [[esc(s.name), f"<code>{esc(s.digest)}</code>", f"<code>{esc(s.uri)}</code>"] for s in data.stages if s.digest]
    if made:
        html += markup.folded("Full digests and places", markup.table(["stage", "digest", "place"], made, "digests", 9))
    params = [[esc(s.name), esc(k), f"<code>{esc(v)}</code>"] for s in data.stages for k, v in s.params.items()]
    if params:
        html += markup.folded("Parameters by stage", markup.table(["stage", "parameter", "value"], params, "", 9))
    html += (
        markup.folded("The resolved recipe", markup.pre(data.recipe))
        if data.recipe
        else markup.missing("The recipe's text is not recorded.")
    )
    lede = "The same command, recipe and versions give the same digests; a digest is over content, never over times or places."
    return markup.section("reproduce", "Reproduce it", html, lede)
