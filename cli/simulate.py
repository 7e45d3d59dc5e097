"""`lehr simulate`: a fleet of failing GPUs, and a policy tried on a recorded log, both around the controller's decision."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.places import LOCAL
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.infra.fleet.decision_log import Replay
    from lehr.infra.simulate.failures import FailureTable
    from lehr.infra.simulate.figure import Group
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
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A time or switch of the scenario; again for more."
)
@click.option("--goal", type=click.FloatRange(0, 1), help="Exit with 1 unless the full regime reaches this effective time.")
@click.option("--levers", is_flag=True, help="What each means against failures is worth instead, at the largest --gpus.")
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
    settings: tuple[str, ...],
    goal: float | None,
    levers: bool,
    figure: Path | None,
    check: bool,
    sensitivity: bool,
    as_json: bool,
) -> int:
    """Simulate a training job on failing nodes under three regimes.

    restart-only restarts on the same nodes until a person cordons one; beaker-like checks nodes before each start,
    cordons what fails and takes another; full is all that Lehr's controller decides, by the controller's own code.

    Times are assumptions: put in your own with --set. --levers says of each means whether Lehr has it; with --goal it exits
    with 0 only if what is built reaches the goal. Reached means that the whole 95 % interval does.

    \b
    Examples:
      lehr simulate fleet                     the table (about two minutes)
      lehr simulate fleet --gpus 4096 --figure losses.svg
      lehr simulate fleet --policy stricter.yaml --seeds 24
      lehr simulate fleet --set launch_seconds=400 --set load_seconds=90
      lehr simulate fleet --levers --goal 0.97
      lehr simulate fleet --sensitivity       what the assumptions matter
    """
    from lehr.cli.simulated import show_check, show_sensitivity
    from lehr.infra.fleet.policy import Policy
    from lehr.infra.simulate.failures import LLAMA3, FailureTable
    from lehr.infra.simulate.scenario import Regime, Scenario
    from lehr.infra.simulate.settings import setting

    _fitting(check, sensitivity, levers, goal, figure)
    table = FailureTable.load(failures or LLAMA3)
    chosen = Policy.load(policy) if policy is not None else Policy()
    values: dict[str, Any] = dict(map(setting, settings))
    if check:
        show_check(gpus, table, values, as_json)
        return 0
    base = Scenario(max(gpus), Regime.FULL, days, checkpoint_interval=60 * checkpoint_minutes[0], policy=chosen, **values)
    if sensitivity:
        show_sensitivity(base, table, range(seeds), as_json)
        return 0
    if levers:
        return _levers(base, table, range(seeds), goal, figure, as_json)
    cases = [
        replace(base, gpus=size, regime=regime, checkpoint_interval=60 * minutes)
        for size, minutes, regime in product(gpus, checkpoint_minutes, Regime)
    ]
    return _regimes(cases, table, range(seeds), goal, figure, as_json)


def _fitting(check: bool, sensitivity: bool, levers: bool, goal: float | None, figure: Path | None) -> None:
    """Raises what would else be a surprise after minutes of work."""
    from lehr.runtime.errors import UserError

    if check + sensitivity + levers > 1:
        raise click.UsageError("give one of --check, --sensitivity and --levers")
    if (check or sensitivity) and (goal is not None or figure is not None):
        raise click.UsageError("--check and --sensitivity have neither --goal nor --figure")
    if figure is not None and not figure.parent.is_dir():
        raise UserError("there is no such folder", where=figure.parent, remedy="make it, or choose another place")


def _regimes(
    cases: Sequence[Scenario], table: FailureTable, seeds: range, goal: float | None, figure: Path | None, as_json: bool
) -> int:
    from lehr.cli.simulated import show_goal, show_rows
    from lehr.cli.tables import console
    from lehr.infra.simulate.figure import by_size
    from lehr.infra.simulate.scenario import Regime

    rows = _simulated(cases, table, seeds)
    if as_json:
        for row in rows:
            say(json.dumps(row.data()))
    else:
        show_rows(console(), rows)
    if figure is not None:
        _write_figure(figure, by_size(rows), as_json)
    full = [(f"{r.gpus:,} GPUs, every {r.checkpoint_minutes:g} min", r) for r in rows if r.regime == Regime.FULL.value]
    return 0 if goal is None or show_goal(full, goal, as_json) else 1


def _levers(base: Scenario, table: FailureTable, seeds: range, goal: float | None, figure: Path | None, as_json: bool) -> int:
    from lehr.cli.simulated import show_goal, show_levers
    from lehr.infra.simulate.levers import ALL, BUILT, lever_groups, lever_study

    found = []
    for number, row in enumerate(lever_study(base, table, seeds), 1):
        _at_work(f"{number}: {row.name}")
        found.append(row)
        if as_json:
            say(json.dumps(row.data()))
    _at_work("")
    if not as_json:
        show_levers(found, base)
    if figure is not None:
        _write_figure(figure, lever_groups(found), as_json, f"What each lever is worth at {base.gpus:,} GPUs")
    if goal is None:
        return 0
    met = {name: show_goal([(name, row.row) for row in found if row.name == name], goal, as_json) for name in (BUILT, ALL)}
    return 0 if met[BUILT] else 1


def _at_work(text: str) -> None:
    """On a terminal's last line; empty text removes it."""
    if sys.stderr.isatty():
        print(f"\r{text}{' ...' if text else ''}\033[K", end="", file=sys.stderr, flush=True)


def _simulated(scenarios: Sequence[Scenario], table: FailureTable, seeds: range) -> list[Row]:
    """One row each; which one is at work stands on a terminal's last line."""
    from lehr.infra.simulate.study import run

    rows = []
    for number, case in enumerate(scenarios, 1):
        what = f"{case.gpus:,} GPUs, {case.checkpoint_interval / 60:g} min, {case.regime.value}"
        _at_work(f"{number} of {len(scenarios)}: {what}")
        rows.append(run(case, table, seeds))
    _at_work("")
    return rows


def _write_figure(path: Path, groups: Sequence[Group], quiet: bool, title: str = "Where training time is lost") -> None:
    from lehr.infra.simulate.figure import svg
    from lehr.runtime.errors import from_os_error

    try:
        path.write_text(svg(groups, title), encoding="utf-8")
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
