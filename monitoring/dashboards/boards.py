"""A board of ours as a dashboard of Grafana's, and as the text of its file."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as d

from lehr.monitoring.dashboards.panels import LINE_COLOURS, datasource, grafana_text, panel
from lehr.monitoring.panels.panel import Annotation, Board, Link, Variable

TAG = "lehr"
ALL = ".*"  # matches a label that is not there, too: few clusters name themselves
# What a chart that does not say where these are leaves as they stand (helm/lehr/templates/monitoring/dashboards.yaml).
RUNBOOKS = "https://runbooks.invalid"
_MILLISECONDS = 1000


def text(board: Board) -> str:
    """The file: Grafana's JSON, one key a line."""
    return JSONEncoder(sort_keys=True, indent=1).encode(dashboard(board)) + "\n"


def dashboard(board: Board) -> d.Dashboard:
    """Grafana's dashboard."""
    made = build.Dashboard(board.title).uid(board.uid).description(board.question).tags([TAG]).editable()
    made.time(f"now-{board.hours:g}h", "now").refresh("30s").timezone("browser").tooltip(d.DashboardCursorSync.CROSSHAIR)
    made.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for at, variable in enumerate((Variable("cluster", board.variables[0].metric, "Cluster"), *board.variables)):
        made.with_variable(_variable(variable, board.scope[:at]))
    for annotation in board.annotations:
        made.annotation(_annotation(annotation, board.scope))
    made.link(_siblings())
    for link in (*board.links, *map(_runbook, board.runbooks)):
        made.link(_link(link))
    _add_rows(made, board)
    return _shown(made.build())


def _shown(made: d.Dashboard) -> d.Dashboard:
    """The SDK's default hides links and annotations in a menu."""
    for link in made.links or []:
        link.placement = None  # type: ignore[assignment]  # typed as always there
    for mark in made.annotations.list_val or []:
        mark.placement = None  # type: ignore[assignment]  # typed as always there
    return made


def _add_rows(made: build.Dashboard, board: Board) -> None:
    number, y = 1, 0
    for row in board.rows:
        made.with_row(build.Row(row.title).id(number).collapsed(False).grid_pos(d.GridPos(h=1, w=24, x=0, y=y)))
        number, y = number + 1, y + 1
        for one, place in row.places(y):
            made.with_panel(panel(one, place, board.scope, number))
            number, y = number + 1, max(y, place.y + one.height)


def _variable(of: Variable, scope: tuple[str, ...]) -> build.QueryVariable:
    """The values of its label, among the series that the variables before it choose."""
    matchers = ",".join(f'{name}=~"${name}"' for name in scope if name in ("cluster", *of.metric.labels))
    query = f"label_values({of.metric.name}{{{matchers}}}, {of.label})"
    made = build.QueryVariable(of.label).label(of.title).datasource(datasource()).query({"query": query, "refId": of.label})
    made.definition(query).refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(d.VariableSort.ALPHABETICAL_ASC)
    if of.multiple:
        made.multi(True).include_all(True).all_value(ALL).current(d.VariableOption(text="All", value="$__all", selected=True))
    return made


def _annotation(of: Annotation, scope: tuple[str, ...]) -> build.AnnotationQuery:
    query = of.query.promql(scope)
    made = build.AnnotationQuery().name(of.name).enable(True).icon_color(LINE_COLOURS[of.level]).datasource(datasource())
    if of.at_value:  # Grafana wants milliseconds
        made.use_value_for_time(True)
        query = f"({query}) * {_MILLISECONDS}"
    return made.expr(query).step("60s").title_format(of.name).text_format(grafana_text(of.text))


def _siblings() -> build.DashboardLink:
    made = build.DashboardLink("Lehr's boards").type(d.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    return made.keep_time(True).include_vars(True)


def _link(of: Link) -> build.DashboardLink:
    made = build.DashboardLink(of.title).type(d.DashboardLinkType.LINK).url(of.url).tooltip(of.tooltip)
    return made.target_blank(True).keep_time(of.carries).include_vars(of.carries).icon("external link")


def _runbook(alert: str) -> Link:
    return Link(alert, f"{RUNBOOKS}/docs/runbooks/{alert}.md", "What to do when this alert fires")
