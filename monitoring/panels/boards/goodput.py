"""Goodput and energy: where the machines' time and power went, over all runs, and what it cost outside."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet
from lehr.monitoring.metrics import recorded as r
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import (
    CORDONS,
    PLACES,
    RESTARTS,
    ROUNDS,
    RUNS,
    SECONDS_PER_HOUR,
    STAGE,
    STAGES,
    at,
    goodput,
    kilowatt_hours,
    stat,
)
from lehr.monitoring.panels.forms import counted, highest, mean, now, rate, ratio, recent, times, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series
from lehr.monitoring.panels.query import Last, Query


def facility_joules() -> Query:
    """Energy of each run with its share of cooling and supply."""
    return times(counted(m.ENERGY_JOULES, "run"), recent(m.SITE_PUE))


GOODPUT_NOW = stat(
    "Goodput",
    (
        "Share of all machines' time that went into work which lasts.",
        "0.9 and more.",
        "runbook LehrGoodputLow; Lost hours, below.",
    ),
    "percentunit",
    Series(goodput(), "of the time"),
    at((0.8, "watch"), (0.9, "good")),
    "bad",
)
HOURS_NOW = stat(
    "Node-hours",
    ("Hours of machines that runs have used.", "as planned: `lehr plan`.", "Lost hours, below."),
    "node-hours",
    Series(times(counted(m.NODE_SECONDS), 1 / SECONDS_PER_HOUR), "used"),
)
ENERGY_NOW = stat(
    "Energy",
    ("IT energy of the runs, without cooling.", "as planned: `lehr plan`.", "Energy of a token, below."),
    "kwatth",
    Series(kilowatt_hours(), "drawn"),
)
CARBON_NOW = stat(
    "CO2",
    (
        "Of the facility's energy, by the recipe's `site`.",
        "what your site reports.",
        "another site, or another hour of the day.",
    ),
    "kg",
    Series(times(total(times(facility_joules(), recent(m.SITE_CARBON))), 1 / 1000), "emitted"),
)
WATER_NOW = stat(
    "Water",
    (
        "Used for the facility's energy, on and off site, by the recipe's `site`.",
        "what your site reports.",
        "another site.",
    ),
    "litre",
    Series(total(times(facility_joules(), recent(m.SITE_WATER))), "used"),
)
POWER_NOW = stat(
    "Power",
    ("IT power of all runs' machines.", "level while they train.", "Power, below."),
    "watt",
    Series(rate(m.ENERGY_JOULES, window=ROUNDS), "drawn"),
)

TIME = Panel(
    "Where time went",
    "Machines at work, by what their time went into.",
    "productive is nearly all.",
    "startup: restarts; rework: save more often; stalled: runbook LehrStalled; idle: runbook LehrGoodputLow.",
    "",
    (Series(rate(m.NODE_SECONDS, "category", window=ROUNDS), "{category}"),),
    width=12,
    height=9,
    axis="zero",
    stacked=True,
)
LOST = Panel(
    "Hours by category",
    "Hours of machines by run and by what they went into, of the runs in the time shown.",
    "productive is the longest bar of each run.",
    "the second longest is what to mend first.",
    "node-hours",
    (Series(times(counted(m.NODE_SECONDS, "run", "category"), 1 / SECONDS_PER_HOUR), "{run}: {category}"),),
    "bars",
    width=12,
    height=9,
    decimals=2,
)
BY_RUN = Panel(
    "Goodput of each run",
    "Share of its machines' time that went into work which lasts.",
    "0.9 and more after some hours.",
    "runbook LehrGoodputLow.",
    "percentunit",
    (Series(goodput("run"), "{run}"),),
    "bars",
    width=12,
    thresholds=at((0.8, "watch"), (0.9, "good")),
    base="bad",
    top=1,
    decimals=1,
)
ENDED = Panel(
    "Attempts, by how they ended",
    "Finished, or whose error it was.",
    "finished; preempted where nodes are borrowed.",
    "machine: board Fleet health; killed: memory, or a node that died; user: the recipe.",
    "short",
    (Series(counted(m.ATTEMPTS, "run", "ended"), "{run}: {ended}"),),
    "bars",
    width=12,
    decimals=0,
)
PREFLIGHTS = Panel(
    "Hours of preflights",
    "Time that preflights of each run's pods took, of those pods that are still there.",
    "minutes.",
    "restarts, each with a preflight of every pod: runbook LehrCrashLoop.",
    "node-hours",
    (Series(times(highest(Last(Fleet.RUN_PREFLIGHT), "run"), 1 / SECONDS_PER_HOUR), "{run}"),),
    "bars",
    width=24,
    height=6,
    decimals=2,
)
POWER = Panel(
    "Power of each run",
    "IT power of its machines.",
    "level while it trains.",
    "dips are waits: board Training run, Parts of a step.",
    "watt",
    (Series(rate(m.ENERGY_JOULES, "run", window=ROUNDS), "{run}"),),
    axis="zero",
)
TOKEN = Panel(
    "Energy of a token",
    "IT energy for each token trained on.",
    "steady.",
    "rises when machines wait.",
    "joule",
    (Series(ratio(rate(m.ENERGY_JOULES, "run", window=ROUNDS), rate(m.TRAIN_TOKENS, "run", window=ROUNDS)), "{run}"),),
    axis="zero",
)
STAGES_ENERGY = Panel(
    "Energy of each stage",
    "IT energy by stage.",
    "pretraining the most.",
    "evaluation near training: fewer examples in the loop.",
    "kwatth",
    (Series(kilowatt_hours("run", "stage"), "{run} {stage}"),),
    "bars",
    decimals=3,
)
SOURCE = Panel(
    "How energy is measured",
    "nvml and rapl are meters in the machine; estimated is a guess from the processor's use. With the site's PUE.",
    "nvml, wherever there are GPUs.",
    "estimated: nvidia-ml-py is missing, or the container may not read the counters.",
    "",
    (Series(highest(recent(m.ENERGY_SOURCE), "run", "source"), "in use"), Series(recent(m.SITE_PUE), "PUE")),
    "table",
    width=12,
    decimals=2,
)
GPU_POWER = Panel(
    "Power of a run's GPUs",
    "As dcgm-exporter measures it: an account independent of the runs' own.",
    "0.7 to 0.95 of Power of each run.",
    "above it: a meter of the run misses a machine.",
    "watt",
    (Series(highest(now(r.RUN_GPU_POWER), "run"), "{run}"),),
    axis="zero",
)
GPU_BUSY = Panel(
    "GPUs at work",
    "Mean over all GPUs: share of time in which one ran anything, and in which its tensor cores worked.",
    "near 1, and above 0.4.",
    "first high, second low: small kernels, waits for other ranks.",
    "percentunit",
    (Series(mean(Last(r.GPUS_BUSY)), "anything"), Series(mean(Last(r.GPUS_TENSOR)), "tensor cores")),
    axis="zero",
    top=1,
)

GOODPUT = Board(
    "lehr-goodput",
    "Lehr / Goodput and energy",
    "What do the machines' time and power go into?",
    (RUNS, STAGE),
    (
        Row("Worth its time, worth its energy", (GOODPUT_NOW, HOURS_NOW, ENERGY_NOW, CARBON_NOW, WATER_NOW, POWER_NOW)),
        Row("Time", (TIME, LOST, BY_RUN, ENDED, PREFLIGHTS)),
        Row("Energy", (POWER, TOKEN, STAGES_ENERGY, SOURCE)),
        Row("GPUs, by dcgm-exporter", (GPU_POWER, GPU_BUSY)),
    ),
    (STAGES, RESTARTS, CORDONS),
    PLACES,
    ("LehrGoodputLow", "LehrStalled", "LehrCrashLoop", "LehrExporterMissing"),
    hours=24.0,
)
