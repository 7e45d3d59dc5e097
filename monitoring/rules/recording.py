"""Recording rules: what dashboards and alerts read of runs, so that each formula stands once."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet, Metric
from lehr.monitoring.metrics import run as m
from lehr.monitoring.rules.rule import RUN, Recording, highest, increase, rate
from lehr.monitoring.time_ledger import EVALUATION, PRODUCTIVE
from lehr.report.footprint import JOULES_PER_KWH

WORK = f'category=~"{PRODUCTIVE}|{EVALUATION}"'
FAILED = 'outcome=~"failed|unreachable"'  # what the store refuses may be a question, such as whether an object is there
WINDOWS = ("1h", "6h")
TOKENS, MFU = "stage:lehr_train_tokens:rate5m", "stage:lehr_train_mfu:ratio_rate5m"
DATA_WAIT, STORE_ERRORS = "stage:lehr_train_data_wait:ratio_rate10m", "run:lehr_store_errors:ratio_rate5m"
POWER, FACILITY = "run:lehr_power_watts:rate5m", "run:lehr_facility_energy_kwh:increase1h"
CARBON, WATER = "run:lehr_carbon_kilograms:increase1h", "run:lehr_water_liters:increase1h"


def node_seconds(window: str) -> str:
    """The name of the series of a run's seconds by category."""
    return f"run:lehr_node_seconds:increase{window}"


def preflight(window: str) -> str:
    """The name of the series of the seconds that a run's preflights took."""
    return f"run:lehr_preflight_seconds:increase{window}"


def goodput(window: str) -> str:
    """The name of the series of a run's goodput."""
    return f"run:lehr_goodput:ratio_increase{window}"


def _goodput(window: str) -> list[Recording]:
    """Steps that count and evaluations over all of the machines' time, which the controller's preflights are part of: before
    a pod works nobody in it counts its time."""
    spent = f"sum by ({RUN}) ({node_seconds(window)})"
    useful = f"(sum by ({RUN}) ({node_seconds(window)}{{{WORK}}}) or 0 * {spent})"
    waited = f"max by (run) (max_over_time({Fleet.RUN_PREFLIGHT.name}[{window}]))"
    before = f"(max by (run) ({Fleet.RUN_PREFLIGHT.name} offset {window}) or 0 * {waited})"
    return [
        Recording(node_seconds(window), increase(m.NODE_SECONDS, window, f"{RUN}, category")),
        Recording(preflight(window), f"clamp_min({waited} - {before}, 0)"),
        Recording(goodput(window), f"{useful} / ({spent} + on (run) group_left () {preflight(window)} or {spent})"),
    ]


def _footprint() -> list[Recording]:
    """Energy, carbon and water by the reports' formulas: IT energy times PUE is the facility's; times a factor of the site."""
    joules = increase(m.ENERGY_JOULES, "1h", RUN)
    facility = f"{joules} * {highest(m.SITE_PUE, RUN)}"

    def of(factor: Metric) -> str:
        return f"{FACILITY} * {JOULES_PER_KWH:.0f} * {highest(factor, RUN)}"

    return [
        Recording(POWER, rate(m.ENERGY_JOULES, "5m", RUN)),
        Recording(FACILITY, f"{facility} / {JOULES_PER_KWH:.0f}"),
        Recording(CARBON, f"{of(m.SITE_CARBON)} / 1000"),
        Recording(WATER, of(m.SITE_WATER)),
    ]


def _training() -> list[Recording]:
    waiting = rate(m.TRAIN_PARTS, "10m", where='{part="data"}')
    requests, failed = (rate(m.STORE_REQUESTS, "5m", RUN, where) for where in ("", "{" + FAILED + "}"))
    return [
        Recording(TOKENS, rate(m.TRAIN_TOKENS, "5m")),
        Recording(MFU, f"{rate(m.TRAIN_FLOPS, '5m')} / {highest(m.TRAIN_FLOPS_PEAK)}"),
        Recording(DATA_WAIT, f"{waiting} / {rate(m.TRAIN_PARTS, '10m')}"),
        Recording(STORE_ERRORS, f"({failed} or 0 * {requests}) / ({requests} > 0)"),
    ]


def recordings() -> list[Recording]:
    """All of them, in the order in which they need each other."""
    return [*_training(), *(rule for window in WINDOWS for rule in _goodput(window)), *_footprint()]
