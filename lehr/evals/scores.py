"""What an evaluation is asked for, and the files that it leaves."""

from __future__ import annotations

from lehr.config.base import NonNegative, Positive
from lehr.config.evaluation import TaskPlan
from lehr.pipeline.ranked import RankedConfig

SCORES, SAMPLES = "scores.json", "samples.json"


class EvaluateConfig(RankedConfig):
    """`model` is the name that the scores go by. `window_tokens` bounds the windows of running text: positions beyond it were
    never trained; 0 is the model's length. `sample_families`: chat families of whose questions some are answered to be read."""

    model: str
    tasks: list[TaskPlan]
    max_new_tokens: Positive
    window_tokens: NonNegative
    sample_families: list[str]
    seed: NonNegative
