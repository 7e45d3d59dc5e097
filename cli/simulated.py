"""Tables of `lehr simulate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lehr.cli.say import say
from lehr.cli.tables import console
from lehr.infra.fleet.decision_log import Replay
from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.figure import WORDS
from lehr.infra.simulate.levers import ALL, BUILT, LEVERS, RESTART_ONLY, TODAY, LeverRow, meets
from lehr.infra.simulate.scenario import Scenario
from lehr.infra.simulate.study import Row, check, sensitivities
from lehr.monitoring.screen import Screen

MAX_DIFFERENCES = 40
WIDE = 160  # columns that the whole table takes


def show_rows(target: Screen, rows: Sequence[Row]) -> None:
    rest = ", and where the rest went" if target.width >= WIDE else ""
    table = Table(
        title=f"Effective training time{rest} (per cent of wall time; checkpoints every ... minutes)",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("GPUs", justify="right")
    table.add_column("every", justify="right")
    table.add_column("regime", no_wrap=True)
    table.add_column("effective", justify="right", no_wrap=True)
    lost = WORDS if target.width >= WIDE else {}
    for name in (*lost.values(), "crashes", "cordons", "of good nodes"):
        table.add_column(name, justify="right", max_width=11)
    last = None
    for row in rows:
        group = (row.gpus, row.checkpoint_minutes)
        if last is not None and group != last:
            table.add_section()
        heads = (f"{row.gpus:,}", f"{row.checkpoint_minutes:g}") if group != last else ("", "")
        last = group
        table.add_row(
            *heads,
            row.regime,
            f"{100 * row.effective:.1f} ± {100 * row.half_width:.1f}",
            *(f"{100 * row.loss[name]:.2f}" for name in lost),
            *(f"{row.counts[name]:.0f}" for name in ("crashes", "cordons", "false_cordons")),
        )
    target.print(table)
    target.print("How often what fails is published; how long faults last and what sees them are assumptions: --sensitivity.")
    if target.width < WIDE:
        target.print(f"Where the rest went: in a terminal of {WIDE} columns, or with --json.")


def show_levers(rows: Sequence[LeverRow], base: Scenario) -> None:
    """What each is worth, where the rest of the time goes, and what Lehr has of it."""
    target = console()
    every = f"{base.checkpoint_interval / 60:g}"
    table = Table(title=f"{base.gpus:,} GPUs; today: checkpoint every {every} min (per cent of wall time)", box=SIMPLE_HEAD)
    table.add_column("on top of today", no_wrap=True)
    table.add_column("built")
    for name in ("effective", "gain", *(WORDS.values() if target.width >= WIDE else ())):
        table.add_column(name, justify="right", no_wrap=name in ("effective", "gain"), max_width=11)
    for found in rows:
        if found.name in (TODAY, LEVERS[0].name, BUILT):
            table.add_section()
        row = found.row
        lost = [f"{100 * row.loss[name]:.2f}" for name in WORDS] if target.width >= WIDE else []
        percent = f"{100 * row.effective:.1f} ± {100 * row.half_width:.1f}"
        built = "" if found.name == RESTART_ONLY else "yes" if found.built else "no"
        table.add_row(found.name, built, percent, f"{100 * found.gain:+.1f}", *lost)
    target.print(table)
    gains = {found.name: 100 * found.gain for found in rows}
    alone = sum(gains[lever.name] for lever in LEVERS)
    target.print(f"Alone they add up to {alone:+.1f} points, together they bring {gains[ALL]:+.1f}.")
    for lever in LEVERS:
        target.print(f"{lever.name}: {lever.what}. {'Built' if lever.built else 'Not built: a setting of the simulator'}.")
    target.print("Every row restarts as often as it must; an engine's retries end, and the same command then goes on.")
    if target.width < WIDE:
        target.print(f"Where the rest of the time goes: in a terminal of {WIDE} columns, with --figure, or with --json.")


def show_goal(judged: Sequence[tuple[str, Row]], goal: float, as_json: bool) -> bool:
    """Prints of each whether it reaches `goal`. Returns whether all do."""
    for name, row in judged:
        met = meets(row, goal)
        if as_json:
            say(json.dumps({"goal": goal, "of": name, "effective": row.effective, "half_width": row.half_width, "met": met}))
        else:
            found = f"{100 * row.effective:.1f} ± {100 * row.half_width:.1f} %"
            say(f"goal of {100 * goal:g} %: {'met' if met else 'missed'} by {name}: {found}")
    return all(meets(row, goal) for _, row in judged)


def show_check(sizes: Iterable[int], failures: FailureTable, settings: Mapping[str, Any], as_json: bool) -> None:
    """Prints how far the simulator is from the closed form, in points."""
    results = [check(size, failures, **settings) for size in sizes]
    if as_json:
        for result in results:
            say(json.dumps(asdict(result)))
        return
    table = Table(title="Memoryless crashes: simulator and closed form")
    for name in ("GPUs", "simulated", "closed form", "difference, points"):
        table.add_column(name, justify="right")
    for found in results:
        simulated = f"{100 * found.simulated:.3f} ± {100 * found.half_width:.3f}"
        apart = f"{100 * (found.simulated - found.exact):+.3f}"
        table.add_row(f"{found.gpus:,}", simulated, f"{100 * found.exact:.3f}", apart)
    console().print(table)


def show_sensitivity(base: Scenario, failures: FailureTable, seeds: Sequence[int], as_json: bool) -> None:
    every = f"{base.checkpoint_interval / 60:g}"
    table = Table(title=f"{base.gpus:,} GPUs, checkpoint every {every} min: one assumption changed at a time")
    table.add_column("what")
    table.add_column("full, %", justify="right")
    table.add_column("lead over restart-only, points", justify="right")
    for found in sensitivities(base, failures, seeds):
        if as_json:
            say(json.dumps(asdict(found)))
        elif sys.stderr.isatty():
            print(f"\r{found.what}\033[K", end="", file=sys.stderr, flush=True)
        table.add_row(found.what, f"{100 * found.effective:.1f}", f"{100 * found.lead:+.1f}")
    if not as_json:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        console().print(table)


def show_replay(target: Screen, result: Replay) -> None:
    hours = result.seconds / 3600.0
    target.print(f"{result.entries} decisions on {len(result.nodes)} nodes in {hours:.1f} hours")
    counts = Table(title="Actions up to each node's first difference")
    counts.add_column("action")
    counts.add_column("recorded", justify="right")
    counts.add_column("this policy", justify="right")
    for kind in sorted(set(result.recorded) | set(result.replayed)):
        counts.add_row(kind, str(result.recorded[kind]), str(result.replayed[kind]))
    target.print(counts)
    if not result.differences:
        target.print("This policy would have decided the same.")
        return
    changes = Table(title=f"Nodes decided differently: {len(result.differences)}")
    for name in ("time", "node", "recorded", "this policy"):
        changes.add_column(name)
    for found in result.differences[:MAX_DIFFERENCES]:
        when = datetime.fromtimestamp(found.now, UTC).strftime("%Y-%m-%d %H:%M:%S")
        changes.add_row(when, found.node, ", ".join(found.recorded) or "nothing", ", ".join(found.replayed) or "nothing")
    target.print(changes)
    if len(result.differences) > MAX_DIFFERENCES:
        target.print(f"... and {len(result.differences) - MAX_DIFFERENCES} more; --json has all of them")
    target.print(f"{result.after_difference} later decisions on those nodes are not predictions and were left out.")
