"""What several boards have in common: variables, limits, marks in time, links."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.forms import counted, increase, now, over, rate, ratio, times
from lehr.monitoring.panels.panel import Annotation, Level, Link, Panel, Series, Threshold, Unit, Variable
from lehr.monitoring.panels.query import RANGE, Query
from lehr.monitoring.time_ledger import PRODUCTIVE

OF = ("run", "stage")
RUN = Variable("run", m.RUN_INFO, "Run", multiple=False)
RUNS = Variable("run", m.RUN_INFO, "Runs")
STAGE = Variable("stage", m.STAGE_STARTED, "Stage")
AWAY = ("quarantined", "revalidating", "repair", "lemon", "burn-in")
ROUNDS = "10m"  # long enough that every step, save and measurement of a usual run falls into it several times
JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0

# Where these are, the chart's values say; it puts that in the place of the hosts here, which are nowhere.
PLACES = (
    Link("MLflow", "https://mlflow.invalid/#/experiments", "Parameters, curves and artifacts of all runs"),
    Link("Flyte", "https://flyte.invalid/console", "Executions have the run's name: which stage runs where, attempts, logs"),
    Link("Logs", "https://logs.invalid/", "What the pods wrote", carries=True),
)

STAGES = Annotation("Stages", now(m.STAGE_STARTED), "{stage} begins", at_value=True)
RESTARTS = Annotation("Restarts", now(m.TRAIN_RESUMED), "{stage} goes on from a save", "watch", at_value=True)
ROLLBACKS = Annotation(
    "Rollbacks", over(increase(m.TRAIN_ROLLBACKS, "stage", window="2m"), 0), "{stage} went back to a save", "bad"
)


def at(*limits: tuple[float, Level]) -> tuple[Threshold, ...]:
    """Thresholds: at how much a value becomes what."""
    return tuple(Threshold(value, level) for value, level in limits)


CORDONS = Annotation("Cordons", now(Fleet.NODE_STATE, state=AWAY), "{node}: {state}", "bad")


Said = tuple[str, str, str]  # what a panel shows, what is healthy, what to do if not
Limits = tuple[Threshold, ...]


def stat(title: str, said: Said, unit: Unit, series: Series, limits: Limits = (), base: Level = "plain") -> Panel:
    """A large last value in a board's first row."""
    digits = {"percentunit": 1, "short": 0}.get(unit)
    return Panel(title, *said, unit, (series,), "stat", width=4, height=5, thresholds=limits, base=base, decimals=digits)


def goodput(*by: str, window: str = RANGE) -> Query:
    """The share of the machines' time that went into work which lasts."""
    lasting = counted(m.NODE_SECONDS, *by, where={"category": PRODUCTIVE}, window=window)
    return ratio(lasting, counted(m.NODE_SECONDS, *by, window=window))


def mfu(*by: str) -> Query:
    """Floating point operations of the model per second, over what the hardware can do at most (`by` holds run and stage)."""
    return ratio(rate(m.TRAIN_FLOPS, *by, window=ROUNDS), now(m.TRAIN_FLOPS_PEAK))


def kilowatt_hours(*by: str, window: str = RANGE) -> Query:
    """IT energy."""
    return times(counted(m.ENERGY_JOULES, *by, window=window), 1 / JOULES_PER_KWH)
