"""What is lost if it dies now, and what was lost so far."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, ROUNDS, at
from lehr.monitoring.panels.forms import age, counted, now, observed, rate, ratio
from lehr.monitoring.panels.panel import Panel, Row, Series
from lehr.monitoring.panels.query import Quantile

CHECKPOINT_AGE = Panel(
    "Age of the last save",
    "Work that is lost if training dies now.",
    "up to the recipe's interval between saves.",
    "runbook LehrCheckpointOld.",
    "s",
    (Series(age(m.CHECKPOINT_TIMESTAMP), "{stage}"),),
    thresholds=at((3600, "watch"), (7200, "bad")),
    base="good",
)
CHECKPOINT_TIME = Panel(
    "Wait for a save",
    "How long writing a checkpoint held up training; and its share of the time shown.",
    "below 0.5 % of the time.",
    "a slow disk or store: board Data preparation, row Object store; save less often.",
    "s",
    (
        Series(Quantile(0.5, m.CHECKPOINT_SECONDS, OF, "1h"), "{stage}: median"),
        Series(Quantile(0.99, m.CHECKPOINT_SECONDS, OF, "1h"), "{stage}: 99 %"),
    ),
    axis="zero",
)
CHECKPOINT_SIZE = Panel(
    "Size of a save",
    "Bytes of the last complete checkpoint.",
    "constant: parameters x (weights + two moments).",
    "a jump says that something else is saved: look at the recipe.",
    "bytes",
    (Series(now(m.CHECKPOINT_BYTES), "{stage}"),),
    axis="zero",
)
TIME = Panel(
    "Where time went",
    "Share of the machines' time by what it went into, in each 10 minutes.",
    "productive over 0.9.",
    "rework: save more often; startup: restarts; stalled: runbook LehrStalled; idle, time between steps: LehrGoodputLow.",
    "percentunit",
    (
        Series(
            ratio(rate(m.NODE_SECONDS, "run", "category", window=ROUNDS), rate(m.NODE_SECONDS, "run", window=ROUNDS)),
            "{category}",
        ),
    ),
    width=12,
    axis="zero",
    top=1,
    stacked=True,
)
ATTEMPTS = Panel(
    "Attempts that ended",
    "Attempts at each stage over the time shown, by how they ended: finished, or whose error it was.",
    "one, finished, a stage; single ones by preemption or machine.",
    "runbook LehrCrashLoop; user: the recipe is wrong and no retry helps.",
    "short",
    (Series(counted(m.ATTEMPTS, "stage", "ended"), "{stage}: {ended}"),),
    "bars",
    width=12,
    decimals=0,
)
SAVING = Panel(
    "Saving, of the steps' time",
    "Time for which saves held up training, over the time of the steps, over the time shown.",
    "below 0.5 %.",
    "save less often, or to a faster place.",
    "percentunit",
    (Series(ratio(observed(m.CHECKPOINT_SECONDS, *OF), observed(m.TRAIN_STEP_SECONDS, *OF)), "{stage}"),),
    "bars",
    width=12,
    thresholds=at((0.005, "watch"), (0.03, "bad")),
    base="good",
    decimals=2,
)
INTERVAL = Panel(
    "Steps between saves",
    "Most optimiser steps from one checkpoint to the next so far.",
    "the recipe's `checkpoint_steps`.",
    "more: saves fail, or are slower than their interval.",
    "short",
    (Series(now(m.CHECKPOINT_INTERVAL), "{stage}"),),
    width=12,
    axis="zero",
)

SAFETY = Row("Saves, and lost time", (CHECKPOINT_AGE, CHECKPOINT_TIME, CHECKPOINT_SIZE, TIME, ATTEMPTS, SAVING, INTERVAL))
