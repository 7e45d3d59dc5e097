"""What `lehr compare` prints."""

from __future__ import annotations

from rich.console import RenderableType
from rich.measure import Measurement
from rich.table import Table

from lehr.analysis.comparison import Grid, averaged
from lehr.analysis.side_by_side import SideBySide
from lehr.cli.say import say
from lehr.cli.tables import WIDE, console, page, plain_table, text
from lehr.report import format as fmt
from lehr.report.against_cost import against_cost, names_of
from lehr.report.compared import standing_text
from lehr.report.differences import difference_cells, difference_text

BESIDE = (
    "Differences with their 95 % interval. Detectable: a true difference of that size is called significant (5 %, two-sided) "
    "in 80 % of such comparisons. *: p below 0.05."
)
LED = (
    "Costs are of all that led to a model, without its scoring. Frontier of: those by which no other model here has as high a "
    "score for less, or a higher one for no more."
)
_SHOWN = 12  # settings; --json and --out have all
_CHARACTERS = 40  # of a setting's value


def shown(found: SideBySide, *, by_stage: bool, markdown: bool) -> None:
    """Print the scores, as Markdown alone, else between what the runs lack, what they took and what differs. `by_stage`: of one
    seed group alone the scores of all stages. Raises UserError where there are no scores and nothing else was asked for."""
    alone = len(found.groups) == 1
    grid = averaged([run.folder for run in found.runs]) if alone and by_stage else _side_by_side(found)
    judged = [f"{row.column.task}, {row.column.about.heading}: {row.note}" for row in found.scores if row.note]
    if markdown:
        say("\n\n".join([grid.markdown(), *judged]))
        return
    how = (
        f"mean of {len(found.runs)} seeds ± standard deviation" if alone else "± standard error, of seeds ± standard deviation"
    )
    table = plain_table(f"Held-out scores, {how}", grid.headings, right=grid.headings[grid.names :])
    for row in grid.rows:
        table.add_row(*map(text, row))
    if found.groups[1:]:
        table.caption = f"{BESIDE} {found.adjusted[0].upper()}{found.adjusted[1:]}."
        table.caption_justify = "left"
    tables = _narrow(found, grid, table)
    lacks = [text(f"{run.name}: {what}") for run in found.runs for what in run.missing]
    parts: list[RenderableType] = [*tables] if grid.rows else []
    parts += map(text, judged)
    page(*lacks, *parts, *_against(found), _totals(found), *_settings(found))


def _narrow(found: SideBySide, grid: Grid, whole: Table) -> list[Table]:
    """The table; where the terminal is too narrow for it the values alone, then each group's differences."""
    out = console()
    if not found.groups[1:] or Measurement.get(out, out.options.update(max_width=WIDE), whole).maximum <= out.width:
        return [whole]
    values = plain_table(str(whole.title), grid.headings[: 2 + len(found.groups)], right=grid.headings[2:])
    for row in grid.rows:
        values.add_row(*map(text, row[: 2 + len(found.groups)]))
    tables = [values]
    for number, name in enumerate(grid.headings[2 + len(found.groups) :]):
        headings = ("score", "difference", "95 % interval", "p", "detectable")
        table = plain_table(name, headings, right=headings[1:])
        for score in found.scores:
            if (apart := score.differences[number]) is None:
                continue
            about = score.column.about
            value, *between, note = difference_cells(apart, about)
            clear = " *" if apart.is_clear else ""
            said = f"{score.column.task}, {about.heading}" + (f": {note}" if note else "")
            table.add_row(*map(text, (said, value + clear, *between)))
        tables.append(table)
    tables[-1].caption, tables[-1].caption_justify = whole.caption, "left"
    return tables


def _side_by_side(found: SideBySide) -> Grid:
    names = names_of(found)
    minus = [f"{group.name.partition(':')[0]} − first" for group in found.groups[1:]]
    rows = []
    for row in found.scores:
        about = row.column.about
        values = [" ".join(standing_text(s, about)).rstrip() for s in row.standings]
        apart = [
            " ".join(difference_text(d, about)).rstrip() + (" *" if d is not None and d.is_clear else "")
            for d in row.differences
        ]
        rows.append([row.column.task, about.heading, *values, *apart])
    return Grid(["task", "metric", *names, *minus], rows, names=2)


def _against(found: SideBySide) -> list[RenderableType]:
    """Scores against what led to each model; nothing where no score has a better way."""
    if (about := against_cost(found)) is None:
        return []
    headings = ("model", about.title, *about.headings, "frontier of")
    table = plain_table("Scores against costs", headings, right=headings[1:-1])
    for model in about.rows:
        table.add_row(*map(text, (model.name, f"{model.value} {model.error}".rstrip(), *model.amounts, model.frontier)))
    tasks = f" The mean is of {about.tasks}." if about.tasks else ""
    table.caption = text("\n".join([*about.differences, " ".join([f"{LED}{tasks}", *about.provenance])]))
    table.caption_justify = "left"
    return [table]


def _totals(found: SideBySide) -> RenderableType:
    headings = ("run", "stages", "time", "tokens", "FLOPs", "tokens/s in steps", "IT energy")
    table = plain_table("What the runs took, scoring included", headings, right=headings[1:])
    for run in found.runs:
        t = found.totals[run.name]
        speed = fmt.count(t.tokens_per_second) if t.tokens_per_second else fmt.duration(None)
        energy = f"{fmt.energy(t.energy_joules)} ({t.energy_source})" if t.energy_source else fmt.energy(None)
        cells = (run.name, t.stages, fmt.duration(t.seconds), fmt.count(t.tokens), fmt.number(t.flops), speed, energy)
        table.add_row(*map(text, cells))
    return table


def _settings(found: SideBySide) -> list[RenderableType]:
    rows = [row for section in found.settings.values() for row in section]
    if len(found.groups) == 1 or not rows:
        return [text(found.alike)]
    table = plain_table("What differs in their recipes", ("key", *(group.name for group in found.groups)))
    for row in rows[:_SHOWN]:
        table.add_row(*map(text, (row.key, *map(_short, row.values))))
    left = len(rows) - _SHOWN
    return [table, *([text(f"and {left} more keys: --json and --out FILE have all")] if left > 0 else [])]


def _short(value: str) -> str:
    return value if len(value) <= _CHARACTERS else f"{value[: _CHARACTERS - 3]}..."
