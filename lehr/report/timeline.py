"""When each stage ran, and what happened on the way."""

from __future__ import annotations

from lehr.report import format as fmt
from lehr.report import markup
from lehr.report.charts import stage_colours
from lehr.report.data import ReportData
from lehr.report.format import esc


def _incidents(data: ReportData) -> str:
    """What happened on the way, over all attempts: restarts, full disks, dead ranks, attempts that overlapped, rollbacks."""
    lines = [line for stage in data.stages for line in stage.incidents]
    if not lines:
        return ""
    items = "".join(f"<li>{esc(line)}</li>" for line in lines)
    return f'<h3>What happened on the way</h3><ul class="incidents">{items}</ul>'


def timeline(data: ReportData) -> str:
    """Stages one after the other, each bar as long as its stage took."""
    if not data.stages:
        return ""
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
