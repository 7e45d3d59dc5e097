"""What it draws and holds."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, ROUNDS, at
from lehr.monitoring.panels.forms import highest, now, rate, ratio, total
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
    "Share in use of the fullest GPU of all the run's machines, by whomever.",
    "below 0.95, level.",
    "near 1 the next long batch may fail: smaller micro-batch, or activation checkpointing.",
    "percentunit",
    (Series(highest(Last(m.GPU_MEMORY), "run"), "fullest GPU of all machines"),),
    axis="zero",
    top=1,
    thresholds=at((0.95, "watch"), (0.99, "bad")),
    base="good",
)

WHAT = Panel(
    "What it is",
    "Model family and beginning of the recipe's SHA-256 of each stage that trains.",
    "one recipe.",
    "two: someone changed the recipe of a run in place.",
    "",
    (Series(now(m.TRAIN_INFO), "trains"),),
    "table",
    width=8,
    decimals=0,
)
GPUS = Panel(
    "GPUs",
    "GPUs that the run's processes see on all its machines, and the memory of one.",
    "as many as the recipe asks for.",
    "fewer: a pod is missing, or a GPU fell off its bus: board Fleet health, XID errors.",
    "short",
    (Series(total(Last(m.GPUS), "run"), "GPUs"), Series(now(m.GPU_MEMORY_SIZE), "memory", "bytes")),
    "table",
    width=8,
    height=5,
    decimals=0,
)
WHERE = Panel(
    "Where it runs",
    "The run's pods, their nodes, and the rank of each pod's first process.",
    "as many pods as the recipe has nodes.",
    "a pod is missing: the Flyte console, or `lehr status`.",
    "",
    (Series(now(m.POD_INFO), "there"),),
    "table",
    width=16,
    decimals=0,
)
ACTIVE = Panel(
    "Stages that take steps",
    "When each stage took steps, and when it paused to evaluate or to write a checkpoint.",
    "steps without gaps within a stage, and short pauses.",
    "gaps are restarts; long pauses: fewer examples in the loop, or saves to a faster place.",
    "",
    (Series(now(m.TRAIN_ACTIVE), "{stage}: takes steps"), Series(now(m.TRAIN_PAUSED), "{stage}: evaluates or saves")),
    "states",
    width=24,
    height=6,
    states={0: ("no", "plain"), 1: ("yes", "good")},
)

COST = Row("Cost", (POWER, JOULES_A_TOKEN, MEMORY, GPU_MEMORY))
ABOUT = Row("What and where", (ACTIVE, WHAT, WHERE, GPUS))
