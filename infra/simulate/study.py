"""Many simulated runs: means with confidence intervals, the check against the closed form, and the sensitivity to each
assumption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist, fmean, stdev
from typing import Any

from lehr.infra.fleet.policy import Policy
from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.job import simulate
from lehr.infra.simulate.scenario import COUNTS, LOSSES, TIMES, Ledger, Regime, Scenario, closed_form


@dataclass(frozen=True)
class Row:
    """Means over seeds. Shares are of the job's wall time; `half_width` is that of the 95 % interval of `effective`."""

    gpus: int
    regime: str
    checkpoint_minutes: float
    seeds: int
    effective: float
    half_width: float
    shares: dict[str, float]
    counts: dict[str, float]

    @property
    def loss(self) -> dict[str, float]:
        """Where the rest of the time went: adds up to 1 - `effective`."""
        return {name: self.shares[name] for name in LOSSES}

    def data(self) -> dict[str, Any]:
        return {**asdict(self), "loss": self.loss}


def run(scenario: Scenario, table: FailureTable, seeds: Sequence[int]) -> Row:
    """Simulate `scenario` once per seed."""
    return _row(scenario, [simulate(scenario, table, seed) for seed in seeds])


def _row(scenario: Scenario, ledgers: list[Ledger]) -> Row:
    values = [ledger.effective for ledger in ledgers]
    shares = {name: fmean(ledger.shares_seconds()[name] / ledger.seconds for ledger in ledgers) for name in TIMES}
    counts = {name: fmean(float(getattr(ledger, name)) for ledger in ledgers) for name in COUNTS}
    return Row(
        scenario.gpus,
        scenario.regime.value,
        scenario.checkpoint_interval / 60.0,
        len(values),
        fmean(values),
        half_width(values),
        shares,
        counts,
    )


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of the confidence interval of the mean, by Student's t; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    return t_quantile(0.5 + level / 2.0, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t by the expansion of Abramowitz and Stegun 26.7.5; at p = 0.975 within 0.3 % from 4 degrees of
    freedom on."""
    z, v = NormalDist().inv_cdf(p), float(freedom)
    g1 = (z**3 + z) / 4.0
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96.0
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4


@dataclass(frozen=True)
class Check:
    """Simulated and closed-form effective time with memoryless crashes only, at the failure rate of `gpus` GPUs."""

    gpus: int
    simulated: float
    half_width: float
    exact: float


def check(gpus: int, table: FailureTable, crashes: int = 300_000, **settings: Any) -> Check:
    """Simulate about `crashes` crashes, with `settings` of the scenario. Few nodes with a higher rate stand for many: the
    closed form depends only on the job's rate, and few nodes are simulated faster."""
    scenario, faster, rate = memoryless(gpus, table, **settings)
    # Forty independent parts instead of one long run, so that their spread gives a confidence interval.
    parts = 40
    scenario = replace(scenario, days=(crashes / parts) * (1.0 / rate + scenario.restart) / 86400.0)
    values = [simulate(scenario, faster, seed).effective for seed in range(parts)]
    return Check(gpus, fmean(values), half_width(values), closed_form(rate, scenario.saves, scenario.restart))


def memoryless(gpus: int, table: FailureTable, **settings: Any) -> tuple[Scenario, FailureTable, float]:
    """Four nodes that together crash as often as `gpus` GPUs, their failures, and the rate in 1/s."""
    few = 4
    speed = gpus / 8 / few
    plain = table.memoryless()
    faster = plain.model_copy(update={"source": plain.source.model_copy(update={"days": plain.source.days / speed})})
    return Scenario(few * 8, Regime.RESTART_ONLY, **settings), faster, table.per_node_second * gpus / 8


@dataclass(frozen=True)
class Sensitivity:
    """Effective time of the full regime, and its lead over restart-only, with one assumption changed."""

    what: str
    effective: float
    lead: float


def sensitivities(base: Scenario, table: FailureTable, seeds: Sequence[int]) -> Iterator[Sensitivity]:
    """Yield the results one by one, as each takes a while; the first is the unchanged base."""
    for what, change_scenario, change_table in _changes():
        rows = [
            run(change_scenario(replace(base, regime=regime)), change_table(table), seeds)
            for regime in (Regime.FULL, Regime.RESTART_ONLY)
        ]
        yield Sensitivity(what, rows[0].effective, rows[0].effective - rows[1].effective)


_ScenarioChange = Callable[[Scenario], Scenario]
_TableChange = Callable[[FailureTable], FailureTable]


def _changes() -> Iterator[tuple[str, _ScenarioChange, _TableChange]]:
    same: Callable[[Any], Any] = lambda x: x

    def scenario(**values: Any) -> _ScenarioChange:
        return lambda s: replace(s, **values)

    def assume(**values: Any) -> _TableChange:
        return lambda t: t.model_copy(update={"assumptions": t.assumptions.model_copy(update=values)})

    def classes(field: str, factor: float) -> _TableChange:
        def scale(table: FailureTable) -> FailureTable:
            scaled = {k: c.model_copy(update={field: min(1.0, getattr(c, field) * factor)}) for k, c in table.classes.items()}
            return table.model_copy(update={"classes": scaled})

        return scale

    yield "as assumed", same, same
    yield "half as many faults persist", same, classes("persistent", 0.5)
    yield "preflight sees half as much", same, classes("preflight", 0.5)
    yield "no node conditions", same, classes("condition", 0.0)
    yield "trainer never names its node", same, classes("trainer", 0.0)
    yield "no watchdog: hangs last 10 minutes", scenario(watchdog_seconds=600.0), same
    yield "neither watchdog nor trainer", scenario(watchdog_seconds=600.0), classes("trainer", 0.0)
    yield "no lemons", same, assume(lemon_fraction=0.0)
    yield "person acts at once", same, assume(person_seconds=0.0)
    yield "person takes 30 minutes", same, assume(person_seconds=1800.0)
    yield "faulty node crashes again after 2 minutes", same, assume(recrash_seconds=120.0)
    yield "faulty node crashes again after 1 hour", same, assume(recrash_seconds=3600.0)
    yield "start takes 2 minutes", scenario(pods_seconds=24.0, launch_seconds=72.0, load_seconds=24.0), same
    yield "start takes 10 minutes", scenario(pods_seconds=120.0, launch_seconds=360.0, load_seconds=120.0), same
    yield "a save is in the store at once", scenario(upload_seconds=0.0), same
    yield "a save is in the store after 5 minutes", scenario(upload_seconds=300.0), same
    yield "checkpoint holds training up for 10 s", scenario(checkpoint_seconds=10.0), same
    yield "preflight takes 15 minutes", scenario(preflight_seconds=900.0), same
    yield "repair takes 72 hours", same, assume(repair_hours=72.0)
    yield "spares: 0.5 %", scenario(spare_fraction=0.005), same
    yield "false failures 1e-4 per check", same, assume(false_failure=1e-4)
    tight = Policy(breaker_headroom=0.1)
    yield "breaker thirty times as tight", scenario(policy=tight), same
