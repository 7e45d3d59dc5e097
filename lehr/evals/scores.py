"""The configuration of an evaluation, and the names of its files."""

from __future__ import annotations

from lehr.config.base import NonNegative, Positive
from lehr.config.evaluation import TaskPlan
from lehr.config.self_knowledge import About
from lehr.pipeline.ranked import RankedConfig

SCORES, SAMPLES = "scores.json", "samples.json"
SELF = "self_knowledge"  # the task, and the family of its questions in SAMPLES
ITEMS = "items.jsonl"  # what each example of a score gave, a line for each score


class EvaluateConfig(RankedConfig):
    """`model` is the model's name in the scores. `window_tokens` limits the windows of running text, since positions beyond the
    training length were never trained; 0 is the model's length. `sample_families`: chat families from which a few questions are
    answered for people to read. `about`: who the model is to be, for the task self_knowledge."""

    model: str
    tasks: list[TaskPlan]
    max_new_tokens: Positive
    window_tokens: NonNegative
    sample_families: list[str]
    seed: NonNegative
    about: About | None = None
