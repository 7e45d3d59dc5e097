"""Experiments: runs side by side."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, PLACES, ROUNDS, RUNS, STAGE, STAGES, goodput, kilowatt_hours, stat
from lehr.monitoring.panels.forms import biggest, counted, highest, lowest, now, number, rate, recent, total
from lehr.monitoring.panels.panel import Board, Panel, Row, Series

RUNS_NOW = stat(
    "Runs",
    (
        "Runs that were seen in the time shown.",
        "those that you started.",
        "a run without an exporter: runbook LehrExporterMissing.",
    ),
    "short",
    Series(number(recent(m.RUN_INFO)), "runs"),
)
TRAINING_NOW = stat(
    "Taking steps",
    ("Stages that take steps now.", "one for each run that trains.", "board Training run of one that should."),
    "short",
    Series(total(now(m.TRAIN_ACTIVE)), "stages"),
)
BEST_NOW = stat(
    "Lowest loss",
    (
        "The lowest last loss of any stage of the runs shown; stages of one kind compare.",
        "your baseline's or less.",
        "table below.",
    ),
    "",
    Series(lowest(recent(m.TRAIN_LOSS)), "of any run"),
)
TOKENS_NOW = stat(
    "Tokens",
    ("Tokens that the runs shown have trained on.", "as planned.", "table below."),
    "short",
    Series(counted(m.TRAIN_TOKENS), "trained on"),
)

TABLE = Panel(
    "Runs and their stages",
    "Last loss, steps, tokens, spike score of the loss, and energy of each.",
    "close to each other, but for what you changed.",
    "open a run's board by its name above; its parameters are in MLflow.",
    "short",
    (
        Series(recent(m.TRAIN_LOSS), "loss"),
        Series(recent(m.TRAIN_STEP), "step"),
        Series(counted(m.TRAIN_TOKENS, *OF), "tokens"),
        Series(highest(biggest(m.TRAIN_SPIKES, metric="loss"), *OF), "spike score", "percentunit"),
        Series(kilowatt_hours(*OF), "kWh"),
    ),
    "table",
    width=24,
    height=9,
    decimals=3,
)
LOSS = Panel(
    "Loss",
    "Loss of each step, by time: one line a run and stage.",
    "below the baseline's at the same step.",
    "runs that began at different times are compared by step in MLflow, or with `lehr compare`.",
    "",
    (Series(now(m.TRAIN_LOSS), "{run} {stage}"),),
    width=12,
    height=10,
)
DEV = Panel(
    "On development data",
    "Last measurements while training.",
    "better than the baseline's.",
    "choose one stage above.",
    "",
    (Series(now(m.TRAIN_DEV_METRIC), "{run} {stage}: {metric}"),),
    width=12,
    height=10,
)
SPEED = Panel(
    "Tokens per second",
    "By run.",
    "equal for equal models on equal machines.",
    "the slower one: board Training run, Slowest rank.",
    "tokens/s",
    (Series(rate(m.TRAIN_TOKENS, "run", window=ROUNDS), "{run}"),),
    axis="zero",
)
NORM = Panel(
    "Gradient norm",
    "Before clipping.",
    "runs that differ in the learning rate alone agree at first.",
    "one that rises alone diverges soon.",
    "",
    (Series(now(m.TRAIN_GRAD_NORM), "{run} {stage}"),),
    axis="log",
)
GOODPUTS = Panel(
    "Goodput",
    "Share of the machines' time that went into work which lasts.",
    "0.9 and more.",
    "board Goodput and energy.",
    "percentunit",
    (Series(goodput("run"), "{run}"),),
    "bars",
    top=1,
    decimals=1,
)
SCORES = Panel(
    "Scores",
    "Scores of the runs' stages, side by side.",
    "above the baseline's by more than two standard errors.",
    "board Evaluation has the errors.",
    "",
    (Series(highest(recent(m.EVAL_SCORE), "run", "stage", "task", "metric"), "{task}, {metric}: {run} {stage}"),),
    "bars",
    width=24,
    height=12,
    decimals=3,
)

EXPERIMENTS = Board(
    "lehr-experiments",
    "Lehr / Experiments",
    "Which run is better, and at what cost?",
    (RUNS, STAGE),
    (
        Row("Better, and at what cost", (RUNS_NOW, TRAINING_NOW, BEST_NOW, TOKENS_NOW)),
        Row("Side by side", (TABLE, LOSS, DEV, SPEED, NORM, GOODPUTS, SCORES)),
    ),
    (STAGES,),
    PLACES,
    ("LehrDiverging", "LehrExporterMissing"),
    hours=48.0,
)
