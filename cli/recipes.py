"""`lehr recipes`: the recipes that come with Lehr."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say


@click.group("recipes", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def recipes(context: click.Context, as_json: bool) -> None:
    """List the recipes that come with Lehr, by the names that `lehr run`, `plan`, `validate` and `profile` take for a path.

    Beside each the size of its model, and what `lehr plan` reckons for the machines that the recipe names: time, where all
    that it needs is here, else GPU-hours; `lehr run` says what must be supplied.

    \b
    Examples:
      lehr recipes
      lehr recipes copy tiny/olmo2
    """
    if context.invoked_subcommand is not None:
        return
    from lehr.cli.shipped import shipped

    found = list(shipped())
    if as_json:
        say(json.dumps([asdict(one) for one in found], indent=1))
        return
    from lehr.cli.tables import page, plain_table, text
    from lehr.report.format import count, duration, number

    table = plain_table("", ("recipe", "parameters", "planned", "what it is"))
    table.title = None
    for one in found:
        size = count(one.parameters) + (f", {count(one.active)} active" if one.active != one.parameters else "")
        takes = duration(one.seconds) if one.complete else f"{number(one.gpu_hours)} GPU-hours, your data"
        table.add_row(*map(text, (one.name, size, takes, one.description)))
    page(table)


@recipes.command("copy")
@click.argument("name")
@click.argument("folder", type=LOCAL, default="recipes", metavar="[FOLDER]")
def copy(name: str, folder: Path) -> None:
    """Copy the shipped recipe NAME into FOLDER (default recipes), to read and to change it.

    What it inherits from and the texts that it reads come along and keep their places beside it, so the copy is the same
    recipe. A file of your own is never written over.

    \b
    Example:
      lehr recipes copy tiny/olmo2 mine
      lehr run mine/tiny/olmo2.yaml
    """
    from lehr.cli.shipped import copied

    files = copied(name, folder)
    say(f"{len(files)} files of {name} are in {folder}")
    say(f"next: lehr run {files[0]}")
