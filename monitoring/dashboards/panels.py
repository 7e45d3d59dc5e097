"""A panel of ours as a panel of Grafana's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from lehr.monitoring.panels.panel import Level, Panel, Place, Series
from lehr.monitoring.panels.query import RANGE

# Names of Grafana's palette: each theme has its own shade of them.
COLOURS: dict[Level, str] = {"good": "green", "watch": "orange", "bad": "red", "plain": "text"}
LINE_COLOURS: dict[Level, str] = {**COLOURS, "plain": "blue"}
_UNITS = {
    "": "none", "tokens/s": "suffix: tokens/s", "steps/s": "suffix: steps/s", "requests/s": "reqps", "documents/s":
    "suffix: documents/s", "nats": "suffix: nats", "kg": "suffix: kg", "GPU-hours": "suffix: GPU-hours", "node-hours":
    "suffix: node-hours", "/s": "cps",
}  # fmt: skip


def datasource() -> c.DataSourceRef:
    """The Prometheus that the viewer has chosen."""
    return c.DataSourceRef(type_val="prometheus", uid="${datasource}")


def grafana_text(text: str) -> str:
    """Labels as Grafana names them in legends: {{stage}}."""
    return re.sub(r"\{(\w+)\}", r"{{\1}}", text)


def panel(of: Panel, place: Place, scope: tuple[str, ...], number: int) -> Any:
    """Grafana's panel, at its place, with the id `number`."""
    made = _MAKERS[of.kind](of)
    made.title(of.title).description(of.description).id(number).datasource(datasource()).unit(_UNITS.get(of.unit, of.unit))
    made.grid_pos(d.GridPos(h=of.height, w=place.width, x=place.x, y=place.y)).thresholds(_thresholds(of))
    if of.needs:
        made.no_value(f"needs {'; '.join(of.needs)}")
    if of.decimals is not None:
        made.decimals(of.decimals)
    if of.axis == "zero":
        made.min(0)
    if of.top is not None:
        made.max(of.top)
    for at, series in enumerate(of.series):
        made.with_target(_target(of, series, scope, _name(at)))
        if series.unit is not None:
            unit = d.DynamicConfigValue(id_val="unit", value=_UNITS.get(series.unit, series.unit))
            made.override_by_name(series.legend, [unit])
    return made


def _name(at: int) -> str:
    return chr(ord("A") + at)


def _target(of: Panel, series: Series, scope: tuple[str, ...], name: str) -> prometheus.Dataquery:
    text = series.query.promql(scope)
    # What is asked of all the time shown is asked once; a table and bars show last values.
    once = of.kind in ("bars", "table") or (of.kind == "stat" and RANGE in text)
    made = prometheus.Dataquery().expr(text).ref_id(name).datasource(datasource())
    made = made.legend_format(grafana_text(series.legend))
    made = made.instant() if once else made.range()
    return made.format(PromQueryFormat.TABLE if of.kind == "table" else PromQueryFormat.TIME_SERIES)


def _thresholds(of: Panel) -> build.ThresholdsConfig:
    colours = LINE_COLOURS if of.kind in ("lines", "bars") else COLOURS
    steps = [d.Threshold(value=None, color=colours[of.base])]
    steps += [d.Threshold(value=one.at, color=colours[one.level]) for one in of.thresholds]
    return build.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(of: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).placement(c.LegendPlacement.BOTTOM)
    wide = of.width >= 12
    legend.display_mode(c.LegendDisplayMode.TABLE if wide else c.LegendDisplayMode.LIST)
    legend.calcs(["lastNotNull", "min", "max"] if wide else [])
    tooltip = common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
    made = timeseries.Panel().legend(legend).tooltip(tooltip)
    made.color_scheme(build.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC))
    made.line_width(2).fill_opacity(40 if of.stacked else 0).show_points(c.VisibilityMode.AUTO)
    if of.stacked:
        made.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if of.axis == "log":
        made.scale_distribution(common.ScaleDistributionConfig().type(c.ScaleDistribution.LOG).log(10))
    if of.thresholds and not of.stacked:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    return made


def _by_thresholds() -> build.FieldColor:
    return build.FieldColor().mode(d.FieldColorModeId.THRESHOLDS)


def _last_values() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("")


def _stat(of: Panel) -> stat.Panel:
    made = stat.Panel().reduce_options(_last_values()).color_scheme(_by_thresholds())
    made.color_mode(c.BigValueColorMode.VALUE).text_mode(c.BigValueTextMode.AUTO)
    return made.graph_mode(c.BigValueGraphMode.AREA).orientation(c.VizOrientation.AUTO)


def _bars(of: Panel) -> bargauge.Panel:
    made = bargauge.Panel().reduce_options(_last_values()).color_scheme(_by_thresholds()).min(0)
    made.orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
    return made.value_mode(c.BarGaugeValueMode.TEXT).name_placement(c.BarGaugeNamePlacement.LEFT).min_viz_height(16)


def _table(of: Panel) -> table.Panel:
    """One row for each combination of labels: Grafana calls the values of several queries `Value #A`, of one query `Value`."""
    alone = len(of.series) == 1
    columns = {"Value" if alone else f"Value #{_name(at)}": one.legend for at, one in enumerate(of.series)}
    made = table.Panel().color_scheme(_by_thresholds()).filterable(True)
    made.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    shown = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": columns}
    return made.with_transformation(d.DataTransformerConfig(id_val="organize", options=shown))


def _states(of: Panel) -> statetimeline.Panel:
    words = {
        str(value): d.ValueMappingResult(text=word, color=LINE_COLOURS[level], index=at)
        for at, (value, (word, level)) in enumerate(of.states.items())
    }
    legend = common.VizLegendOptions().show_legend(True).placement(c.LegendPlacement.BOTTOM)
    made = statetimeline.Panel().mappings([d.ValueMap(options=words)]).legend(legend.display_mode(c.LegendDisplayMode.LIST))
    return made.color_scheme(_by_thresholds()).show_value(c.VisibilityMode.AUTO).merge_values(True).fill_opacity(70)


_MAKERS: dict[str, Callable[[Panel], Any]] = {"lines": _lines, "stat": _stat, "bars": _bars, "table": _table, "states": _states}
