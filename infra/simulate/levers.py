"""What each means against failures is worth: alone, all together, and all without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.figure import Group
from lehr.infra.simulate.scenario import Regime, Scenario
from lehr.infra.simulate.study import Row, run

RESTART_ONLY, TODAY, BUILT, ALL = "restart only", "today", "all that is built", "all levers"


@dataclass(frozen=True)
class Lever:
    """`built`: whether Lehr's own code does it; else it is a setting of the simulator and nothing else."""

    name: str
    built: bool
    what: str
    settings: Mapping[str, Any]


LEVERS = (
    Lever("save often", True, "a save every 5 minutes of training (checkpoint_steps)", {"checkpoint_interval": 300.0}),
    Lever("in-place restart", True, "ranks start again in the pods that are left, without Flyte", {"restart_in_place": True}),
    Lever("memory copies", True, "every 2 minutes to the memory of two pods (copy_steps); need it", {"memory_copies": True}),
    Lever("hot spares", True, "idle nodes hold running, checked pods (spares); need it too", {"hot_spares": True}),
)


@dataclass(frozen=True)
class LeverRow:
    """`gain` in effective time over `today`; `built`: whether all of it is."""

    name: str
    built: bool
    gain: float
    row: Row

    def data(self) -> dict[str, Any]:
        return {"lever": self.name, "built": self.built, "gain": self.gain, **self.row.data()}


def lever_study(base: Scenario, table: FailureTable, seeds: Sequence[int]) -> Iterator[LeverRow]:
    """Yields rows one by one, as each takes a while: without Lehr's controller, `today` (with it, and with none of them), then
    each lever alone, all that are built, all, and all but each. The same seeds everywhere."""
    today = replace(base, regime=Regime.FULL)
    known: dict[tuple[str, ...], Row] = {(): run(today, table, seeds)}
    first = known[()].effective
    alone = run(replace(base, regime=Regime.RESTART_ONLY), table, seeds)
    yield LeverRow(RESTART_ONLY, True, alone.effective - first, alone)
    for name, chosen in cases():
        key = tuple(lever.name for lever in chosen)
        if key not in known:
            known[key] = run(with_levers(today, chosen), table, seeds)
        yield LeverRow(name, all(lever.built for lever in chosen), known[key].effective - first, known[key])


def cases() -> list[tuple[str, tuple[Lever, ...]]]:
    """The names of the rows from `today` on, each with its levers."""
    single = [(lever.name, (lever,)) for lever in LEVERS]
    built = tuple(lever for lever in LEVERS if lever.built)
    fewer = [(f"all but {left.name}", tuple(x for x in LEVERS if x is not left)) for left in LEVERS]
    return [(TODAY, ()), *single, (BUILT, built), (ALL, LEVERS), *fewer]


def with_levers(scenario: Scenario, levers: Sequence[Lever]) -> Scenario:
    for lever in levers:
        scenario = replace(scenario, **lever.settings)
    return scenario


def lever_groups(rows: Sequence[LeverRow]) -> list[Group]:
    """The bars of a figure; a star marks what is not built."""
    bars = [(row.name if row.built else f"{row.name} *", row.row) for row in rows]
    start = next(number for number, row in enumerate(rows) if row.name == BUILT)
    several = "Several" if all(row.built for row in rows) else "Several (*: with some that Lehr does not have)"
    return [("One lever on top of today", bars[:start]), (several, bars[start:])]


def meets(row: Row, goal: float) -> bool:
    """Whether the whole 95 % interval of the effective time lies at `goal` or above."""
    return row.effective - row.half_width >= goal
