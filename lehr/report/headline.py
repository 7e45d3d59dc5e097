"""The top of the page: what was trained, how well it does, what it took; and when each stage ran."""

from __future__ import annotations

import math

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.charts import stage_colours
from lehr.report.data import ReportData
from lehr.report.format import esc
from lehr.report.scores import Column, ScoreRecord

_TILES = 4


def headline(data: ReportData) -> str:
    """Title, one sentence, the scores that moved most, and the cost."""
    about = f'<p class="about">{esc(data.description)}.</p>' if data.description else ""
    stamp = f'<p class="stamp">{esc(data.created)}</p>' if data.created else ""
    scores, costs = "".join(_score_tiles(data)), "".join(_cost_tiles(data))
    return (
        f'<header><p class="kicker">Lehr run report</p><h1>{esc(data.run)}</h1>{about}'
        f'<p class="lede">{_sentence(data)}</p>{stamp}{_against(data)}'
        f'<div class="tiles">{scores}</div><div class="tiles cost">{costs}</div></header>'
    )


def _sentence(data: ReportData) -> str:
    parts = []
    if data.totals.parameters:
        parts.append(f"A language model of {fmt.count(data.totals.parameters)} parameters")
    else:
        parts.append("A language model")
    trained = [s for s in data.stages if s.tokens]
    if trained:
        stages = f"{len(trained)} stage{'s' if len(trained) != 1 else ''}"
        parts.append(f"trained{' from scratch' if data.from_scratch else ''} on {fmt.count(data.tokens)} tokens in {stages}")
    env = data.environment
    if env.cpu or env.cores:
        cores = f"{env.cores} core{'s' if env.cores != 1 else ''}" if env.cores else ""
        parts.append("on " + " of ".join(p for p in (cores, env.cpu) if p))
    return esc(", ".join(parts) + ".")


def _against(data: ReportData) -> str:
    """How the models that baselines were made for stand to them: a line each, and those that are worse marked."""
    table = data.table("held_out")
    lines = []
    for column in table.of_models:
        for stage, record in table.of(column):
            simpler = [(c, found) for c in table.baselines(column) if (found := table.cells.get((stage, c)))]
            if simpler:
                lines.append(_line(column, record, simpler))
    if not lines:
        return ""
    items = "".join(f'<li class="{"worse" if worse else ""}">{esc(text)}</li>' for text, worse in lines)
    return f'<ul class="against">{items}</ul>'


def _line(column: Column, record: ScoreRecord, simpler: list[tuple[Column, ScoreRecord]]) -> tuple[str, bool]:
    """`prose at soup: 2.062 bits per byte, worse than ...; better than ...`, and whether it is worse than one."""
    m = column.about
    words = {True: list[str](), False: list[str]()}
    for other, found in simpler:
        name = other.about.title.removesuffix(f" on the same tokens, {m.title}")
        words[found.value < record.value].append(f"{name} ({fmt.value(found.value, m)})")
    sides = [("worse than", words[True]), ("better than" if not words[True] else "and better than", words[False])]
    said = " ".join(f"{side} {' and '.join(names)}" for side, names in sides if names)
    place = f"{column.task.replace('_', ' ')} at {record.stage}"
    return f"{place}: {fmt.with_unit(record.value, m)}, {said} on the same tokens", bool(words[True])


def movers(data: ReportData) -> list[tuple[Column, tuple[str, ScoreRecord], tuple[str, ScoreRecord]]]:
    """Held-out scores from their first to their last stage, those that moved by most standard errors first."""
    table = data.table("held_out")
    found = []
    for column in table.of_models:
        row = table.of(column)
        if len(row) < 2:
            continue
        (_, first), (_, last) = row[0], row[-1]
        spread = math.hypot(first.stderr or 0.0, last.stderr or 0.0) or abs(first.value) * 0.02 or 0.01
        found.append((abs(last.value - first.value) / spread, column, row[0], row[-1]))
    found.sort(key=lambda f: -f[0])
    return [(column, first, last) for _, column, first, last in found]


def _score_tiles(data: ReportData) -> list[str]:
    tiles = []
    for column, (first_stage, first), (last_stage, last) in movers(data)[:_TILES]:
        m = column.about
        unit = "%" if m.is_share else ""
        error = f" ± {fmt.value(last.stderr, m)}" if last.stderr is not None else ""
        name = f"{column.task.replace('_', ' ')}, {m.title}"
        better = "lower is better, " if m.better == "lower" else ""
        before = f"{fmt.value(first.value, m)}{unit} at {first_stage}"
        tiles.append(
            f'<div class="tile"><p class="name">{esc(name)}</p>'
            f'<p class="figure">{fmt.value(last.value, m)}<small>{unit}{esc(error)}</small></p>'
            f'<p class="from">at {esc(last_stage)}, from {esc(before)}<br>held out, {better}n = {last.n:,}</p></div>'
        )
    return tiles or [markup.missing("No held-out scores of two stages are recorded, so there is nothing to compare.")]


def _cost_tiles(data: ReportData) -> list[str]:
    def tile(name: str, value: str, detail: str) -> str:
        shown = f'<p class="name">{esc(name)}</p><p class="figure">{esc(value)}</p><p class="from">{esc(detail)}</p>'
        return f'<div class="tile">{shown}</div>'

    reused = sum(s.reused for s in data.stages)
    wall = data.totals.wall_seconds
    detail = f"over {len(data.stages)} stages" + (f", {reused} of them reused" if reused else "")
    detail += f"; this command took {fmt.duration(wall)}" if wall else ""
    tiles = [tile("Time", fmt.duration(data.seconds), detail)]
    tiles.append(tile("Tokens", fmt.count(data.tokens), "trained on, all stages together"))
    source = measured(data)
    tiles.append(tile("IT energy", fmt.energy(data.it_energy), source))
    if data.carbon_kg is not None and data.site:
        constants = f"at {data.site.carbon_kg_per_kwh:g} kg per kWh, PUE {data.site.pue:g}"
        tiles.append(tile("CO₂e", fmt.mass(data.carbon_kg), constants))
    if data.totals.peak_memory_bytes:
        tiles.append(tile("Peak memory", f"{data.totals.peak_memory_bytes / 2**30:.2f} GiB", "largest of all stages"))
    return tiles


def measured(data: ReportData) -> str:
    """Where the energy figures come from, said plainly."""
    words = {
        "nvml": "measured by the GPUs' own counters",
        "rapl": "measured by the processor's own counters",
        "estimated": "estimated from CPU seconds, not measured",
    }
    known = [words.get(source, source) for source in data.energy_sources]
    return "; ".join(known) if known else "not recorded"


def _incidents(data: ReportData) -> str:
    """What happened on the way, over all attempts: restarts, full disks, dead ranks, attempts that overlapped, rewinds."""
    lines = [line for stage in data.stages for line in stage.incidents]
    if not lines:
        return ""
    items = "".join(f"<li>{esc(line)}</li>" for line in lines)
    return f'<h3>What happened on the way</h3><ul class="incidents">{items}</ul>'


def timeline(data: ReportData) -> str:
    """Stages one after the other, each bar as long as its stage took."""
    if not data.stages:
        return markup.section("timeline", "Stages", markup.missing("No stages are recorded."))
    total = data.seconds or 1.0
    colours = stage_colours(data)
    rows, passed = [], 0.0
    for stage in data.stages:
        share = stage.seconds / total
        bar = markup.bar(
            [(max(share, 0.003), colours[stage.name], fmt.duration(stage.seconds))], min(passed / total, 0.997), "gantt"
        )
        state = '<span class="reused">reused</span>' if stage.reused else ""
        rows.append(
            f'<div class="gantt-row"><span class="stage">{esc(stage.name)} {state}</span>{bar}'
            f'<span class="num">{fmt.duration(stage.seconds)}</span></div>'
        )
        passed += stage.seconds
    note = (
        "Each bar starts where the one above it ends and is as long as the stage took; "
        "reused stages show the time of the run that made them."
    )
    html = f'<div class="gantt-box">{"".join(rows)}</div>' + markup.caption(note) + _incidents(data)
    return markup.section("timeline", "Stages", html)
