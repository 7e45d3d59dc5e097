"""Evaluation over checkpoints: which model of a run is best, and by how much more than chance."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, PLACES, RUN, STAGE, STAGES, stat
from lehr.monitoring.panels.boards.training.learning import DEV
from lehr.monitoring.panels.forms import counted, highest, mean, now, number, ratio, recent, times
from lehr.monitoring.panels.panel import Board, Panel, Row, Series, Variable

TASK = Variable("task", m.EVAL_SCORE, "Task")
SPLIT = Variable("split", m.EVAL_SCORE, "Split")
SCORED = ("stage", "task", "metric", "split")

SCORES_NOW = stat(
    "Scores",
    (
        "Scores that stages of this run have, of all tasks shown.",
        "as many as the recipe's tasks for each scored stage.",
        "row Progress.",
    ),
    "short",
    Series(number(recent(m.EVAL_SCORE)), "scores"),
)
BEST = stat(
    "Best share",
    (
        "The best score of any stage and task shown that is a share of right answers.",
        "rises from stage to stage.",
        "table below.",
    ),
    "percentunit",
    Series(highest(recent(m.EVAL_SCORE, metric=("accuracy", "acc", "acc_per_char", "exact_match"))), "of any stage"),
)
BITS = stat(
    "Bits per byte, mean",
    (
        "Mean over stages and tasks shown of bits per byte; lower is better.",
        "falls from stage to stage.",
        "table below.",
    ),
    "",
    Series(mean(recent(m.EVAL_SCORE, metric="bits_per_byte")), "bits per byte"),
)
ERROR = stat(
    "Largest standard error",
    (
        "That of the least certain score shown.",
        "below 2 %.",
        "more examples: a difference below two of these says nothing.",
    ),
    "percentunit",
    Series(highest(recent(m.EVAL_SCORE_STDERR)), "standard error"),
)

TABLE = Panel(
    "All scores",
    "Each stage's score on each task, with its standard error.",
    "soups above their ingredients, tuned models above their bases on what they were tuned for.",
    "differences below two standard errors are noise; held_out is open for frozen models only.",
    "",
    (Series(recent(m.EVAL_SCORE), "score"), Series(recent(m.EVAL_SCORE_STDERR), "standard error")),
    "table",
    width=24,
    height=10,
    decimals=4,
)
BARS = Panel(
    "Stages side by side",
    "Scores of all stages, task by task. Bits per byte: lower is better; shares: higher.",
    "later stages better.",
    "choose one task above; look at the table for errors.",
    "",
    (Series(highest(recent(m.EVAL_SCORE), *SCORED), "{task}, {metric}, {split}: {stage}"),),
    "bars",
    width=12,
    height=14,
    decimals=3,
)
OVER_TIME = Panel(
    "As they came",
    "Scores by the time at which they were made.",
    "each stage above the one before.",
    "look at the stage's training on its own board.",
    "",
    (Series(highest(now(m.EVAL_SCORE), *SCORED), "{task}, {metric}, {split}: {stage}"),),
    width=12,
    height=14,
)
DOUBT = Panel(
    "Twice the standard error",
    "A difference between two models below this is likely chance.",
    "small against the differences that you look for.",
    "raise the task's limit of examples.",
    "",
    (Series(times(highest(recent(m.EVAL_SCORE_STDERR), *SCORED), 2), "{task}, {metric}, {split}: {stage}"),),
    "bars",
    width=12,
    height=9,
    decimals=3,
)
PROGRESS = Panel(
    "Progress of stages",
    "Share done of what each stage has to do: tasks for those that score, steps for those that train.",
    "grows.",
    "one that stands: board Training run, Sign of life.",
    "percentunit",
    (Series(ratio(now(m.STAGE_DONE), now(m.STAGE_PLANNED)), "{stage}"),),
    axis="zero",
    top=1,
    width=12,
    height=9,
)
SECONDS = Panel(
    "Time of finished stages",
    "Wall time of each stage that has ended; of those found again, the time that they took when they were made.",
    "scoring takes less than training.",
    "fewer examples in the loop; tasks that share prompts.",
    "s",
    (Series(highest(recent(m.STAGE_SECONDS), *OF), "{stage}"),),
    "bars",
    width=12,
    height=9,
)

OUTCOMES = Panel(
    "Stages finished",
    "Finished stages, by whether they were made or found again; and which those were.",
    "after a restart nearly all are found again.",
    "made again though nothing changed: `lehr explain` says what did.",
    "short",
    (
        Series(counted(m.STAGES_FINISHED, "run", "outcome"), "{outcome}"),
        Series(highest(recent(m.STAGE_REUSED), *OF), "found again: {stage}"),
    ),
    "bars",
    width=12,
    height=9,
    decimals=0,
)

EVALUATION = Board(
    "lehr-evaluation",
    "Lehr / Evaluation",
    "Which model of this run is best, and is the difference real?",
    (RUN, STAGE, TASK, SPLIT),
    (
        Row("Best, and by how much", (SCORES_NOW, BEST, BITS, ERROR)),
        Row("Scores", (TABLE, BARS, OVER_TIME, DOUBT)),
        Row("Progress", (PROGRESS, SECONDS, OUTCOMES, DEV)),
    ),
    (STAGES,),
    PLACES,
    ("LehrStalled",),
    hours=24.0,
)
