"""How fast it is, and who holds it up."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, ROUNDS, at, mfu
from lehr.monitoring.panels.forms import minus, now, rate, ratio
from lehr.monitoring.panels.panel import Panel, Row, Series
from lehr.monitoring.panels.query import Quantile

SPEED = Panel(
    "Tokens per second",
    "Over all machines.",
    "steady.",
    "a step down that stays: one slow machine (Slowest rank); teeth: data or saves.",
    "tokens/s",
    (Series(rate(m.TRAIN_TOKENS, *OF), "{stage}"),),
    axis="zero",
)
MFU = Panel(
    "MFU",
    "Model FLOPs utilisation: operations of the model over what the hardware can do at most.",
    "0.35 to 0.55 for dense models in bf16 on H100.",
    "look at Parts of a step; the roofline for your model: `lehr plan`.",
    "percentunit",
    (Series(mfu(*OF), "{stage}"),),
    axis="zero",
    thresholds=at((0.2, "watch"), (0.35, "good")),
    base="bad",
)
STEP_TIME = Panel(
    "Time of a step",
    "Median, 9 in 10 and 99 in 100 steps are as fast or faster.",
    "the three close together.",
    "a far 99th: saves, evaluation, garbage collection or a machine that stutters.",
    "s",
    (
        Series(Quantile(0.5, m.TRAIN_STEP_SECONDS, OF, ROUNDS), "{stage}: median"),
        Series(Quantile(0.9, m.TRAIN_STEP_SECONDS, OF, ROUNDS), "{stage}: 90 %"),
        Series(Quantile(0.99, m.TRAIN_STEP_SECONDS, OF, ROUNDS), "{stage}: 99 %"),
    ),
    axis="zero",
)
PARTS = Panel(
    "Parts of a step",
    "Share of the steps' time by what it went into.",
    "forward and backward over 0.8; data near 0.",
    "data: runbook LehrDataStall; communication: sharding or a slow link.",
    "percentunit",
    (Series(ratio(rate(m.TRAIN_PARTS, *OF, "part"), rate(m.TRAIN_PARTS, *OF)), "{stage}: {part}"),),
    width=12,
    axis="zero",
    top=1,
    stacked=True,
)
STRAGGLER = Panel(
    "Slowest rank",
    "Time of the slowest rank over the middle one's, last step. Everybody waits for the slowest.",
    "below 1.05.",
    "runbook LehrStraggler.",
    "",
    (Series(now(m.TRAIN_STRAGGLER), "{stage}"),),
    width=6,
    thresholds=at((1.05, "watch"), (1.2, "bad")),
    base="good",
    decimals=2,
)
WHO = Panel(
    "Which rank is slowest",
    "The rank that the others waited for, last step.",
    "now this one, now that one.",
    "always the same: its node is slow; Where it runs, below, has the nodes of pods and their first ranks.",
    "",
    (Series(now(m.TRAIN_SLOWEST), "{stage}"),),
    width=6,
    decimals=0,
)
LEFT = Panel(
    "Time left",
    "Steps that are left, at the speed of the last 10 minutes.",
    "falls as the clock goes.",
    "look at Speed.",
    "s",
    (
        Series(
            ratio(minus(now(m.TRAIN_STEPS_PLANNED), now(m.TRAIN_STEP)), rate(m.TRAIN_STEPS, *OF, window=ROUNDS)),
            "{stage}",
        ),
    ),
    width=12,
    axis="zero",
)

FAST = Row("Speed", (SPEED, MFU, STEP_TIME, PARTS, STRAGGLER, WHO, LEFT))
