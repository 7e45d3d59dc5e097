"""Whether it learns: loss, norms, development data, spikes, experts."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import ROUNDS, at
from lehr.monitoring.panels.forms import increase, now
from lehr.monitoring.panels.panel import Panel, Row, Series

LOSS = Panel(
    "Loss",
    "Loss of each step, and the limit above which the guard refuses the update.",
    "falls and stays well below the limit.",
    "runbooks LehrDiverging and LehrSpikeStorm.",
    "",
    (Series(now(m.TRAIN_LOSS), "{stage}"), Series(now(m.TRAIN_LOSS_LIMIT), "{stage}: guard's limit")),
    width=12,
    height=9,
)
GRAD_NORM = Panel(
    "Gradient norm",
    "Global norm before clipping, and the guard's limit.",
    "falls from its start and stays level.",
    "a slow rise over thousands of steps comes before a divergence: lower the learning rate, or go back to a save.",
    "",
    (Series(now(m.TRAIN_GRAD_NORM), "{stage}"), Series(now(m.TRAIN_NORM_LIMIT), "{stage}: guard's limit")),
    width=12,
    height=9,
    axis="log",
)
DEV = Panel(
    "On development data",
    "Bits per byte of development texts, of all and of each source, measured while training.",
    "moves as the loss does.",
    "if it turns while the loss falls, the model memorises: look at the mix.",
    "",
    (Series(now(m.TRAIN_DEV_METRIC), "{stage}: {metric}"),),
)
LEARNING_RATE = Panel(
    "Learning rate",
    "That of the last step.",
    "follows the recipe's schedule.",
    "a step in it is a rollback or a stage of its own.",
    "",
    (Series(now(m.TRAIN_LEARNING_RATE), "{stage}"),),
    axis="zero",
)
SPIKES = Panel(
    "Spike score",
    "Share of steps 7 deviations off the 1,000 before, in loss or gradient norm (OLMo 2, section 3.2); from the 1,000th on.",
    "below 0.1 %.",
    "runbook LehrSpikeStorm.",
    "percentunit",
    (Series(now(m.TRAIN_SPIKES), "{stage}: {metric}"),),
    thresholds=at((0.001, "watch"), (0.01, "bad")),
    base="good",
    decimals=2,
)
SKIPPED = Panel(
    "Steps refused, rolled back, repeated",
    "Updates that were not applied, by reason; times that training went back to a save; steps made again; in 10 minutes.",
    "none, or single ones.",
    "runbook LehrSpikeStorm; not_finite says that a number overflowed.",
    "short",
    (
        Series(increase(m.TRAIN_STEPS_SKIPPED, "stage", "reason", window=ROUNDS), "{stage}: refused, {reason}"),
        Series(increase(m.TRAIN_ROLLBACKS, "stage", window=ROUNDS), "{stage}: rollbacks"),
        Series(increase(m.TRAIN_REWORK, "stage", window=ROUNDS), "{stage}: made again"),
    ),
    axis="zero",
    thresholds=at(
        (10, "bad"),
    ),
)
EXPERTS = Panel(
    "Least load of an expert",
    "Load of the expert with the fewest tokens: 1 is balanced, 0 an expert without any.",
    "above 0.5 after the first thousand steps.",
    "raise the coefficient of the balance loss; an expert without tokens does not come back by itself.",
    "percentunit",
    (Series(now(m.TRAIN_LEAST_LOAD), "{stage}"),),
    thresholds=at((0.2, "watch"), (0.5, "good")),
    base="bad",
    axis="zero",
)

EMBEDDING_NORM = Panel(
    "Norm of the token embedding",
    "Mean 2-norm of the token embedding's rows, measured at an interval.",
    "level, or growing slowly.",
    "it shrinks: small embeddings make large gradients in the first layers (OLMo 2, section 3.4.2); no weight decay on them.",
    "",
    (Series(now(m.TRAIN_METRIC, metric="embedding_norm"), "{stage}"),),
    axis="zero",
)
MASKED = Panel(
    "Masked instances",
    "Sequences of a step whose loss is left out because they repeat themselves.",
    "few, in bursts at most.",
    "many: a source full of repetitions; look at what the mix reads now.",
    "short",
    (Series(now(m.TRAIN_METRIC, metric="masked_instances"), "{stage}"),),
    axis="zero",
)

LEARNING = Row("Learning", (LOSS, GRAD_NORM, DEV, LEARNING_RATE, SPIKES, SKIPPED, EXPERTS, EMBEDDING_NORM, MASKED))
