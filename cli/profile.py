"""`lehr profile`: where a training step goes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from lehr.cli.run import recipe_argument, set_option
from lehr.cli.say import say

_SHOWN = 16


@click.command("profile")
@recipe_argument
@set_option
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="How many steps to average over.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--debug-sync", is_flag=True, help="Instead, name the places where the host waits for the device.")
def profile(recipe: Path, overrides: tuple[str, ...], steps: int, as_json: bool, debug_sync: bool) -> None:
    """Say where a training step of RECIPE goes, by phase and by operator.

    One rank of stage 1 is run on random tokens: its model, precision, rows and sequence length. Nothing is read or written.

    \b
    Examples:
      lehr profile tiny/olmo2
      lehr profile tiny/olmo2 --set precision=fp32
      lehr profile tiny/olmo2 --debug-sync
    """
    if debug_sync:
        _show_syncs(recipe, overrides, steps, as_json)
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler talks on stderr, at level 5 of its probes (USDT)
    from rich.table import Table

    from lehr.analysis.profiling import profile_step
    from lehr.cli.tables import console
    from lehr.config import load_recipe

    found = profile_step(load_recipe(recipe, list(overrides)), steps)
    if as_json:
        say(json.dumps(vars(found), indent=1))
        return
    out = console()
    for title, times in (("phase", found.phases), ("operator", dict(list(found.operators.items())[:_SHOWN]))):
        total = sum(found.phases.values())
        table = Table(title, "ms a step", "share", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, ms in times.items():
            table.add_row(name, f"{ms:.2f}", f"{ms / total:.0%}")
        out.print(table)
        out.print()
    out.print(f"{found.tokens_per_second:,.0f} tokens/s, {found.flops_per_second / 1e9:.1f} GFLOP/s on this rank")


def _show_syncs(recipe: Path, overrides: tuple[str, ...], steps: int, as_json: bool) -> None:
    """The places where the loop of stage 1 makes the host wait, by file and line, each with its number a step."""
    from lehr.analysis.profiling import profile_syncs
    from lehr.config import load_recipe
    from lehr.train.sync_debugging import lines

    calls = profile_syncs(load_recipe(recipe, list(overrides)), steps)
    if as_json:
        rows = [{"place": place, "operator": what, "per_step": count / steps} for (place, what), count in calls.most_common()]
        say(json.dumps(rows, indent=1))
        return
    for line in lines(calls, steps):
        say(line)
    say(f"{sum(calls.values()) / steps:6.2f} a step in all")
