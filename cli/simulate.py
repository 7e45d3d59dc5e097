"""`lehr simulate`: a fleet of failing GPUs, and a policy tried on a recorded log, both around the controller's decision."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.infra.fleet.decision_log import Replay
    from lehr.infra.simulate.failures import FailureTable
    from lehr.infra.simulate.scenario import Scenario
    from lehr.infra.simulate.study import Row
    from lehr.monitoring.screen import Screen

DEFAULT_GPUS = (1024, 4096, 16384)


@click.group("simulate")
def simulate() -> None:
    """Try a fleet policy without a fleet."""


@simulate.command("fleet")
@click.option("--gpus", type=click.IntRange(min=8), multiple=True, default=DEFAULT_GPUS, show_default=True, help="Of the job.")
@click.option("--seeds", type=click.IntRange(min=2), default=8, show_default=True, help="Runs of each case.")
@click.option("--days", type=click.FloatRange(min=0.1), default=54.0, show_default=True, help="Length of a run.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0.1),
    multiple=True,
    default=(30.0, 10.0),
    show_default=True,
    help="Training between two checkpoints.",
)
@click.option("--policy", type=LOCAL, help="YAML file with a policy; without it the default.")
@click.option("--failures", type=LOCAL, help="YAML file with failures; without it those of Llama 3.")
@click.option("--figure", type=LOCAL, help="Write the loss breakdown as an SVG here.")
@click.option("--check", is_flag=True, help="Compare with the closed form instead, where one exists.")
@click.option("--sensitivity", is_flag=True, help="Change one assumption at a time instead, at the largest --gpus.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
def fleet(
    gpus: tuple[int, ...],
    seeds: int,
    days: float,
    checkpoint_minutes: tuple[float, ...],
    policy: Path | None,
    failures: Path | None,
    figure: Path | None,
    check: bool,
    sensitivity: bool,
    as_json: bool,
) -> None:
    """Simulate a training job on failing nodes under three regimes.

    restart-only restarts on the same nodes until a person cordons one; beaker-like checks nodes before each start,
    cordons what fails and takes another; full is all that Lehr's controller decides, by the controller's own code.

    \b
    Examples:
      lehr simulate fleet                     the table (about a minute)
      lehr simulate fleet --gpus 4096 --figure losses.svg
      lehr simulate fleet --policy stricter.yaml --seeds 24
      lehr simulate fleet --sensitivity       what the assumptions matter
    """
    from lehr.cli.simulated import show_check, show_rows, show_sensitivity
    from lehr.cli.tables import console
    from lehr.infra.fleet.policy import Policy
    from lehr.infra.simulate.failures import LLAMA3, FailureTable
    from lehr.infra.simulate.scenario import Regime, Scenario
    from lehr.runtime.errors import UserError

    table = FailureTable.load(failures or LLAMA3)
    chosen = Policy.load(policy) if policy is not None else Policy()
    if check:
        show_check(gpus, table, as_json)
        return
    if sensitivity:
        base = Scenario(max(gpus), Regime.FULL, days, checkpoint_interval=60 * checkpoint_minutes[0], policy=chosen)
        show_sensitivity(base, table, range(seeds), as_json)
        return
    if figure is not None and not figure.parent.is_dir():  # said before a minute of work, not after it
        raise UserError("there is no such folder", where=figure.parent, remedy="make it, or choose another place")
    cases = [
        Scenario(size, regime, days, checkpoint_interval=60 * minutes, policy=chosen)
        for size, minutes, regime in product(gpus, checkpoint_minutes, Regime)
    ]
    rows = _simulated(cases, table, range(seeds))
    if as_json:
        for row in rows:
            say(json.dumps(row.data()))
    else:
        show_rows(console(), rows)
    if figure is not None:
        _write_figure(figure, rows, as_json)


def _simulated(scenarios: Sequence[Scenario], table: FailureTable, seeds: range) -> list[Row]:
    """One row each; which one is at work stands on a terminal's last line."""
    from lehr.infra.simulate.study import run

    rows = []
    for number, case in enumerate(scenarios, 1):
        if sys.stderr.isatty():
            what = f"{case.gpus:,} GPUs, {case.checkpoint_interval / 60:g} min, {case.regime.value}"
            print(f"\r{number} of {len(scenarios)}: {what} ...\033[K", end="", file=sys.stderr, flush=True)
        rows.append(run(case, table, seeds))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return rows


def _write_figure(path: Path, rows: list[Row], quiet: bool) -> None:
    from lehr.infra.simulate.figure import svg
    from lehr.runtime.errors import from_os_error

    try:
        path.write_text(svg(rows), encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, path) from error
    if not quiet:
        say(f"figure: {path}")


@simulate.command("replay")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=LOCAL)
@click.option("--policy", type=LOCAL, required=True, help="YAML file with the policy to try.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def replay(logs: tuple[Path, ...], policy: Path, as_json: bool) -> None:
    """Decide a controller's LOG anew with another policy, and show what would have been different. Older files first.

    For each node the first decision that differs is a prediction; what follows it in the log was shaped by the policy
    that ran then, and is only counted. Try larger changes with `lehr simulate fleet --policy`.

    \b
    Example:
      lehr simulate replay decisions.jsonl --policy stricter.yaml
    """
    from lehr.cli.simulated import show_replay
    from lehr.cli.tables import console
    from lehr.infra.fleet.decision_log import read
    from lehr.infra.fleet.decision_log import replay as replay_log
    from lehr.infra.fleet.policy import Policy

    result: Replay = replay_log(chain.from_iterable(map(read, logs)), Policy.load(policy))
    if as_json:
        data = {
            "entries": result.entries,
            "nodes": len(result.nodes),
            "seconds": result.seconds,
            "recorded": dict(result.recorded),
            "replayed": dict(result.replayed),
            "differences": [vars(d) for d in result.differences],
            "after_difference": result.after_difference,
        }
        say(json.dumps(data))
        return
    target: Screen = console()
    show_replay(target, result)
