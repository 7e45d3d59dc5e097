"""`lehr list`: the runs in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table

    from lehr.cli.runs_found import Run

_WIDE = 150  # columns from which each thing has its own
_MOST_DAMAGED = 3


@click.command("list")
@click.argument("place", type=LOCAL, default="runs", metavar="[PLACE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(place: Path, as_json: bool) -> None:
    """List the runs in PLACE, a folder (default runs), and in folders below it: the last one first.

    Each with its recipe, when it was last worked on, whether it is finished, stopped or at work and how far it came, what its
    last model scores (what the recipe's evaluation.headline names, else the first held-out task and the first of chat), the
    tokens, energy and money that led to that model as `lehr compare` counts them, and its size on disk. Folders that `lehr
    eval` wrote to are listed too. What is damaged is named.

    \b
    Examples:
      lehr list
      lehr list runs/experiments
      lehr list --json | jq -r '.[] | select(.state == "finished") | .folder'
    """
    from lehr.cli.runs_found import runs

    found = runs(place, default=str(place) == "runs")
    if as_json:
        say(json.dumps([asdict(run) for run in found], indent=1))
        return
    if not found:
        say(f"no runs in {place} yet; `lehr run RECIPE` makes one", err=True)
        return
    from lehr.cli.tables import console, page

    page(_wide(found) if console().width >= _WIDE else _narrow(found))


def _wide(found: Sequence[Run]) -> Table:
    from lehr.cli.tables import plain_table, text

    headings = ("run", "recipe", "last worked on", "state", "scores", "tokens", "IT energy", "money", "size")
    table = plain_table("", headings, right=headings[5:])
    table.title = None
    for run in found:
        cells = (run.folder, run.recipe, run.when, _state(run), run.scores, *_costs(run), _size(run.bytes))
        table.add_row(*map(text, cells))
    return table


def _narrow(found: Sequence[Run]) -> Table:
    """What belongs together stands one above the other."""
    from lehr.cli.tables import plain_table, text

    headings = ("run, recipe", "state, last worked on", "scores", "its model took", "size")
    table = plain_table("", headings, right=headings[3:])
    table.title = None
    for run in found:
        tokens, *costs = _costs(run)
        took = dict.fromkeys([tokens if tokens == "–" else f"{tokens} tokens", *costs])
        cells = (
            (run.folder, run.recipe.removeprefix("–")),
            (_state(run), run.when),
            _lines(run.scores),
            took,
            (_size(run.bytes),),
        )
        table.add_row(*(text("\n".join(filter(None, lines))) for lines in cells))
    return table


def _lines(scores: str) -> list[str]:
    """A line for each, in which a value and its per cent sign stay together."""
    return scores.replace(" %", "%").split(", ")


def _state(run: Run) -> str:
    """`finished`, `stopped after soup, 6 of 7 stages`, `scores of soup`, and what is damaged."""
    after = f" after {run.reached}" if run.reached else ""
    said = run.state if run.state == "finished" else f"{run.state}{after}"
    if run.state == "scores":
        said = f"scores of {run.reached}" if run.reached else "scores"
    elif run.state != "finished" and run.of_stages:
        said += f", {run.stages} of {run.of_stages} stages"
    more = f" and {len(run.damaged) - _MOST_DAMAGED} more" if len(run.damaged) > _MOST_DAMAGED else ""
    return said + (f"; damaged: {', '.join(run.damaged[:_MOST_DAMAGED])}{more}" if run.damaged else "")


def _costs(run: Run) -> tuple[str, str, str]:
    """Tokens, energy and money; a dash where there is no model, or nothing is known."""
    from lehr.report.against_cost import UNKNOWN, amount_text

    if run.taken is None:
        return "–", "–", "–"
    tokens, energy, money = (amount_text(quantity, run.taken).replace(UNKNOWN, "–") for quantity in ("tokens", "kwh", "money"))
    return tokens, energy, money


def _size(count: int) -> str:
    """`812 kB`, `1.2 GB`."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
