"""What it draws and holds."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, ROUNDS, at
from lehr.monitoring.panels.forms import now, rate, ratio, total
from lehr.monitoring.panels.panel import Panel, Row, Series
from lehr.monitoring.panels.query import Last

POWER = Panel(
    "Power",
    "IT power of the run's machines.",
    "level while it trains.",
    "dips are waits: compare with Parts of a step.",
    "watt",
    (Series(rate(m.ENERGY_JOULES, *OF, window=ROUNDS), "{stage}"),),
    axis="zero",
)
JOULES_A_TOKEN = Panel(
    "Energy of a token",
    "IT energy for each token trained on.",
    "steady, and lower than on the hardware before.",
    "it rises when machines wait: look at Speed.",
    "joule",
    (Series(ratio(rate(m.ENERGY_JOULES, *OF, window=ROUNDS), rate(m.TRAIN_TOKENS, *OF, window=ROUNDS)), "{stage}"),),
    axis="zero",
)
MEMORY = Panel(
    "Memory",
    "Resident memory of the run's processes on all its machines: now, and the sum of their peaks.",
    "level after the first steps.",
    "a steady rise is a leak: `lehr run` with fewer workers, and tell us.",
    "bytes",
    (
        Series(total(Last(m.MEMORY_RESIDENT), "run"), "resident"),
        Series(total(Last(m.MEMORY_PEAK), "run"), "peak"),
    ),
    axis="zero",
)
GPU_MEMORY = Panel(
    "GPU memory",
    "Share in use of each GPU of the run's processes, by whomever.",
    "below 0.95, level.",
    "near 1 the next long batch may fail: smaller micro-batch, or activation checkpointing.",
    "percentunit",
    (Series(ratio(now(m.GPU_MEMORY), now(m.GPU_MEMORY_SIZE)), "GPU {gpu}"),),
    axis="zero",
    top=1,
    thresholds=at((0.95, "watch"), (0.99, "bad")),
    base="good",
)

COST = Row("Cost", (POWER, JOULES_A_TOKEN, MEMORY, GPU_MEMORY))
