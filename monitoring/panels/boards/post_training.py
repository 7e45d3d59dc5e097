"""Post-training and RL: whether the policy gets better, without talking itself into its reward."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import OF, PLACES, RESTARTS, ROLLBACKS, RUN, STAGE, STAGES, at, stat
from lehr.monitoring.panels.boards.methods import METHODS
from lehr.monitoring.panels.boards.training.learning import DEV, GRAD_NORM, LEARNING_RATE, LOSS, SKIPPED
from lehr.monitoring.panels.boards.training.now import PROGRESS
from lehr.monitoring.panels.boards.training.speed import SPEED, STEP_TIME
from lehr.monitoring.panels.forms import now, rate, ratio
from lehr.monitoring.panels.panel import Board, Panel, Row, Series

REWARD_NOW = stat(
    "Reward",
    ("Mean reward of the last step's answers.", "rises.", "runbook LehrRewardsCollapsed; read samples in the report."),
    "short",
    Series(now(m.TRAIN_REWARD), "{stage}"),
)
KL_NOW = stat(
    "KL from the reference",
    (
        "How far the policy has gone from its reference, nats a token.",
        "below 0.1, rising slowly.",
        "a lower learning rate, or a higher weight of the KL term.",
    ),
    "nats",
    Series(now(m.TRAIN_KL), "{stage}"),
    at((0.1, "watch"), (1.0, "bad")),
    "good",
)
LENGTH_NOW = stat(
    "Length of an answer",
    (
        "Mean tokens of the last step's answers.",
        "grows slowly where reasoning helps.",
        "it runs away: look at Answers without an end.",
    ),
    "short",
    Series(now(m.TRAIN_RESPONSE), "{stage}"),
)
UNFINISHED_NOW = stat(
    "Answers without an end",
    ("Share of answers that were cut at the longest length.", "below 0.1.", "allow more tokens, or reward endings."),
    "percentunit",
    Series(now(m.TRAIN_UNFINISHED), "{stage}"),
    at((0.1, "watch"), (0.5, "bad")),
    "good",
)
ACCURACY_NOW = stat(
    "Preference accuracy",
    (
        "Share of pairs whose chosen answer the policy prefers.",
        "above 0.6 and rising.",
        "below 0.5: chosen and rejected are mixed up.",
    ),
    "percentunit",
    Series(now(m.TRAIN_METRIC, metric="preference_accuracy"), "{stage}"),
    at((0.5, "watch"), (0.6, "good")),
    "bad",
)

REWARD = Panel(
    "Reward",
    "Mean reward of each step's answers.",
    "rises and flattens.",
    "flat at its lowest value: runbook LehrRewardsCollapsed; sudden heights: a hole in the reward, read samples.",
    "",
    (Series(now(m.TRAIN_REWARD), "{stage}"),),
    width=12,
    height=9,
)
KL = Panel(
    "KL from the reference",
    "Divergence of the policy from its reference, nats a token.",
    "below 0.1, without jumps.",
    "reward that rises only with KL is not worth much: compare the scores of two saves.",
    "nats",
    (Series(now(m.TRAIN_KL), "{stage}"),),
    width=12,
    height=9,
    thresholds=at((0.1, "watch"), (1.0, "bad")),
    base="good",
)
LENGTH = Panel(
    "Length of an answer",
    "Mean tokens of each step's answers.",
    "level, or growing slowly.",
    "steep growth at a flat reward: a reward that likes length.",
    "short",
    (Series(now(m.TRAIN_RESPONSE), "{stage}"),),
    axis="zero",
)
UNFINISHED = Panel(
    "Answers without an end, tokens held by the clip",
    "Share of answers cut at the longest length, and share of tokens whose gradient the clip removed.",
    "below 0.1 and below 0.2.",
    "endings: allow more tokens; the clip: fewer updates from one roll-out.",
    "percentunit",
    (
        Series(now(m.TRAIN_UNFINISHED), "{stage}: without an end"),
        Series(now(m.TRAIN_METRIC, metric="clipped"), "{stage}: clipped"),
    ),
    axis="zero",
    thresholds=at((0.5, "bad")),
)
SAMPLER_DIFFERENCE = Panel(
    "Sampler against trainer",
    "Mean difference of the log-probabilities of an engine elsewhere from the trainer's, of the last roll-out, nats a token.",
    "below 0.001 in fp32, below 0.05 in bf16, and level. Empty where the trainer samples itself.",
    "a step up: the engine answers from old weights, or at another temperature.",
    "nats",
    (Series(now(m.TRAIN_SAMPLER_DIFFERENCE), "{stage}"),),
    axis="zero",
)
SAMPLING = Panel(
    "Sampling, of the steps' time",
    "Share of a step that goes into sampling answers.",
    "0.5 to 0.8 where the trainer samples itself.",
    "above 0.9: longer batches of prompts, or samplers of their own.",
    "percentunit",
    (
        Series(
            ratio(rate(m.TRAIN_PARTS, *OF, where={"part": "sampling"}, window="10m"), rate(m.TRAIN_PARTS, *OF, window="10m")),
            "{stage}",
        ),
    ),
    axis="zero",
    top=1,
)
MARGIN = Panel(
    "DPO: margin over the reference",
    "Gain in log-probability over the reference model of the chosen minus that of the rejected answers, nats per token.",
    "rises from 0 and flattens.",
    "below 0: pairs the wrong way round; without end: fewer epochs, a larger beta.",
    "",
    (Series(now(m.TRAIN_MARGIN), "{stage}"),),
)
ACCURACY = Panel(
    "Preference accuracy",
    "Share of pairs whose chosen answer the policy prefers.",
    "from 0.5 to 0.7 or 0.8.",
    "near 1 within a few hundred steps: pairs that are too easy, or seen before.",
    "percentunit",
    (Series(now(m.TRAIN_METRIC, metric="preference_accuracy"), "{stage}"),),
    top=1,
)
CHAT_LOSS = Panel(
    "Loss on answers",
    "Loss of fine-tuning on the tokens of answers alone, nats a token.",
    "falls within each epoch.",
    "steps down between epochs say that it memorises: fewer epochs.",
    "nats",
    (Series(now(m.TRAIN_METRIC, metric="chat_loss"), "{stage}"),),
)

POST_TRAINING = Board(
    "lehr-post-training",
    "Lehr / Post-training and RL",
    "Does the policy get better, and honestly?",
    (RUN, STAGE),
    (
        Row("Better, and honestly", (PROGRESS, REWARD_NOW, KL_NOW, LENGTH_NOW, UNFINISHED_NOW, ACCURACY_NOW)),
        Row("Reinforcement learning", (REWARD, KL, LENGTH, UNFINISHED, SAMPLING, SAMPLER_DIFFERENCE)),
        Row("Fine-tuning and preferences", (CHAT_LOSS, MARGIN, ACCURACY)),
        *METHODS,
        Row("Training", (LOSS, GRAD_NORM, DEV, LEARNING_RATE, SKIPPED, SPEED, STEP_TIME)),
    ),
    (STAGES, RESTARTS, ROLLBACKS),
    PLACES,
    ("LehrRewardsCollapsed", "LehrStalled", "LehrDiverging"),
)
