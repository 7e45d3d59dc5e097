"""What single methods of post-training say of themselves: PPO with its value model, BRAIn, models of rewards."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.boards.common import at
from lehr.monitoring.panels.forms import now
from lehr.monitoring.panels.panel import Panel, Row, Series


def _series(*named: tuple[str, str]) -> tuple[Series, ...]:
    """One line a stage for each name of a step's metric, with the words behind the stage's name."""
    return tuple(Series(now(m.TRAIN_METRIC, metric=name), f"{{stage}}{said}") for name, said in named)


ANSWER_KL = Panel(
    "PPO: KL of an answer",
    "Divergence from the reference summed over an answer's tokens, which PPO's coefficient holds at its target.",
    "near the recipe's target after the first tens of roll-outs.",
    "it stays away: a target that the policy cannot keep, or a coefficient that moves too slowly.",
    "nats",
    _series(("answer_kl", "")),
)
COEFFICIENT = Panel(
    "PPO: coefficient of the KL",
    "What a nat of divergence costs in reward. It rises while answers are further from the reference than the target.",
    "settles.",
    "rises without end: the reward pulls harder than the KL holds; a lower learning rate.",
    "",
    _series(("kl_coefficient", "")),
)
VALUE_LOSS = Panel(
    "PPO: loss of the value model",
    "Half the mean squared distance of values from returns, clipped as the recipe says.",
    "falls and flattens; its height follows the reward's scale.",
    "rises: a lower learning rate of the value model, or rewards without bounds.",
    "",
    _series(("value_loss", "")),
    axis="zero",
)
EXPLAINED = Panel(
    "PPO: variance that values explain",
    "Share of the returns' variance that the value model foresees: 1 is all, 0 none.",
    "rises from 0.",
    "below 0: values are worse than their mean. Train the value model first, or longer on each roll-out.",
    "",
    _series(("explained_variance", "")),
    top=1,
)
POSTERIOR_KL = Panel(
    "BRAIn: KL of the policy from the posterior",
    "Divergence on a prompt's samples, of the posterior's weights from the policy's.",
    "falls.",
    "level from the start: a `beta` at which all samples weigh the same, or one weighs all.",
    "nats",
    _series(("posterior_kl", "")),
    axis="zero",
)
EFFECTIVE = Panel(
    "BRAIn: effective samples",
    "How many of a prompt's samples carry the weights, of the posterior and of the policy.",
    "several of those that the recipe draws.",
    "near 1: one sample decides. A larger `beta`, or fresher proposals.",
    "",
    _series(("posterior_samples", ": posterior"), ("policy_samples", ": policy")),
    axis="zero",
)
REWARD_MARGIN = Panel(
    "Model of rewards: margin",
    "Mean reward of chosen minus rejected answers, by the model in training.",
    "rises from 0 and flattens.",
    "below 0: pairs the wrong way round; rising without end: fewer epochs.",
    "",
    _series(("reward_margin", "")),
)
REWARD_ACCURACY = Panel(
    "Model of rewards: pairs in the right order",
    "Share of pairs whose chosen answer has the higher reward.",
    "rises from 0.5.",
    "near 1 at once: pairs that length or form gives away; near 0.5: too few pairs.",
    "percentunit",
    _series(("reward_accuracy", "")),
    thresholds=at((0.5, "watch"), (0.6, "good")),
    base="bad",
    top=1,
)
RATING_ERROR = Panel(
    "Model of rewards: distance from the rating",
    "Mean distance of the model's reward from the rating that it learns.",
    "falls and flattens.",
    "level: ratings that answers do not explain.",
    "",
    _series(("rating_error", "")),
    axis="zero",
)

METHODS = (
    Row("PPO", (ANSWER_KL, COEFFICIENT, VALUE_LOSS, EXPLAINED)),
    Row("BRAIn", (POSTERIOR_KL, EFFECTIVE)),
    Row("Models of rewards", (REWARD_MARGIN, REWARD_ACCURACY, RATING_ERROR)),
)
