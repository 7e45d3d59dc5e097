"""The first row: progress, life, loss, speed, goodput, energy."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, at, goodput, kilowatt_hours
from lehr.monitoring.panels.forms import age, lowest, now, rate, ratio
from lehr.monitoring.panels.panel import Panel, Row, Series

PROGRESS = Panel(
    "Progress",
    "Steps taken, of those that the stage has.",
    "grows.",
    "look at Sign of life; a stage that has ended shows nothing.",
    "percentunit",
    (Series(ratio(now(m.TRAIN_STEP), now(m.TRAIN_STEPS_PLANNED)), "{stage}"),),
    "stat",
    width=4,
    height=5,
    decimals=1,
)
SIGN_OF_LIFE = Panel(
    "Sign of life",
    "Seconds since training last reported anything.",
    "a few steps' time; up to two minutes while it evaluates or saves.",
    "runbook LehrStalled: one rank hangs, or a machine does.",
    "s",
    (Series(lowest(age(m.TRAIN_HEARTBEAT)), "since the last report"),),
    "stat",
    width=4,
    height=5,
    thresholds=at((120, "watch"), (600, "bad")),
    base="good",
)
LOSS_NOW = Panel(
    "Loss",
    "Loss of the last step; in pretraining nats a token.",
    "falls, quickly at first.",
    "look at Learning below: spikes, norms, the guard.",
    "",
    (Series(now(m.TRAIN_LOSS), "{stage}"),),
    "stat",
    width=4,
    height=5,
    decimals=3,
)
SPEED_NOW = Panel(
    "Speed",
    "Tokens trained on in a second, over all machines.",
    "steady; as `lehr plan` said.",
    "look at Speed below: which part of a step grew.",
    "tokens/s",
    (Series(rate(m.TRAIN_TOKENS, *OF), "{stage}"),),
    "stat",
    width=4,
    height=5,
)
GOODPUT_NOW = Panel(
    "Goodput",
    "Share of the machines' time that went into work which lasts, over the time shown.",
    "0.9 and more, once it has run for hours.",
    "runbook LehrGoodputLow; Where time went, below, says into what it goes.",
    "percentunit",
    (Series(goodput("run"), "of the time"),),
    "stat",
    width=4,
    height=5,
    thresholds=at((0.8, "watch"), (0.9, "good")),
    base="bad",
    decimals=1,
)
ENERGY_NOW = Panel(
    "Energy",
    "IT energy of the time shown; board Goodput and energy says how it was measured.",
    "as `lehr plan` said for so many tokens.",
    "compare joules a token with an earlier run's.",
    "kwatth",
    (Series(kilowatt_hours("run"), "drawn"),),
    "stat",
    width=4,
    height=5,
)

NOW = Row("Healthy, fast, worth its energy", (PROGRESS, SIGN_OF_LIFE, LOSS_NOW, SPEED_NOW, GOODPUT_NOW, ENERGY_NOW))
