"""`lehr list`: the runs in a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say


@click.command("list")
@click.argument("place", type=LOCAL, default="runs", metavar="[PLACE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(place: Path, as_json: bool) -> None:
    """List the runs in PLACE, a folder (default runs), and in folders below it: the last one first.

    Each with its recipe, when it was last worked on, whether it is finished, stopped or at work, what its last model scores
    (the first held-out task of its recipe, and the first of chat), and its size on disk.

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
    from lehr.cli.tables import page, plain_table, text

    table = plain_table("", ("run", "recipe", "last worked on", "state", "scores", "size"), right=("size",))
    table.title = None
    for run in found:
        made = f" ({run.stages} of {run.of_stages} stages)" if run.state != "finished" and run.of_stages else ""
        table.add_row(*map(text, (run.folder, run.recipe, run.when, f"{run.state}{made}", run.scores, _size(run.bytes))))
    page(table)


def _size(count: int) -> str:
    """`812 kB`, `1.2 GB`."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
