"""`lehr compare`: runs side by side."""

from __future__ import annotations

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say

_SHOWN = 8  # lines of what differs


@click.command("compare")
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option("--stage", help="Whose scores to compare. [default: the last stage of each run that has some]")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def compare(runs: tuple[Where, ...], stage: str | None, markdown: bool) -> None:
    """Compare the held-out scores of RUNS.

    Runs that differ in nothing but their seeds are averaged: a column for each stage, the mean over the runs ± their
    standard deviation. Of other runs the last models stand side by side, with their difference from the first run's and its
    standard error (of independent samples; where both answered the same examples the difference is known better), and the
    settings that differ are listed. A * marks differences beyond two standard errors.

    \b
    Examples:
      lehr compare runs/seed7 runs/seed8 runs/seed9 --markdown
      lehr compare runs/tiny-olmo2 runs/second --stage soup
    """
    from lehr.analysis.comparison import averaged, one_recipe, side_by_side, what_differs
    from lehr.cli.locate import public_files
    from lehr.runtime.errors import UserError

    if len(runs) < 2:
        raise UserError("one run has nothing to be compared with", remedy="give two runs or more; `lehr show` has one's scores")
    folders = [public_files(run) for run in runs]
    alike = stage is None and one_recipe(folders)
    grid = averaged(folders) if alike else side_by_side(folders, stage or "")
    if markdown:
        say(grid.markdown())
        return
    from lehr.cli.tables import page, plain_table, text

    how = f"mean of {len(runs)} seeds ± standard deviation" if alike else "± standard error"
    table = plain_table(f"Held-out scores, {how}", grid.headings, right=grid.headings[grid.names :])
    for row in grid.rows:
        table.add_row(*map(text, row))
    page(table)
    for folder in [] if alike else folders[1:]:
        lines = what_differs(folders[0], folder)
        more = [f"and {len(lines) - _SHOWN} more; `lehr explain` shows those of a stage"] if len(lines) > _SHOWN else []
        if lines:
            page(text(f"\nWhat {folder.name} does differently than {folders[0].name}:"))
        for line in [*lines[:_SHOWN], *more]:
            page(text(f"  {line}"))
