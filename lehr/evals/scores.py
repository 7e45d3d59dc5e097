"""The configuration of an evaluation, and the names of its files."""

from __future__ import annotations

from typing import Any

from lehr.artifacts.artifact import Kind
from lehr.config.base import NonNegative, Positive
from lehr.config.evaluation import TaskPlan
from lehr.config.self_knowledge import About
from lehr.evals import own, packaged
from lehr.pipeline.ranked import RankedConfig

SCORES, SAMPLES = "scores.json", "samples.json"
SELF = "self_knowledge"  # the task, and the family of its questions in SAMPLES
FLAGS = "contaminated.jsonl"  # the examples that training documents hold, and these documents
ITEMS = "items.jsonl"  # what each example of a score gave, a line for each score
# Roles of what the model and its ancestors were trained on -> kind: what compared it with evaluation texts wrote down which
# examples it holds.
TRAINED_ON: dict[str, Kind] = {
    "trained_documents": "documents", "trained_conversations": "conversations", "trained_preferences": "preferences",
    "trained_prompts": "prompts",
}  # fmt: skip


class EvaluateConfig(RankedConfig):
    """`model` is the model's name in the scores. `window_tokens` limits the windows of running text, since positions beyond the
    training length were never trained; 0 is the model's length. `sample_families`: chat families from which a few questions are
    answered for people to read. `about`: who the model is to be, for the task self_knowledge. `not_compared`: what else the
    model and its ancestors learned from, of which nobody knows whether it holds evaluation examples."""

    model: str
    tasks: list[TaskPlan]
    max_new_tokens: Positive
    window_tokens: NonNegative
    sample_families: list[str]
    seed: NonNegative
    about: About | None = None
    not_compared: list[str] = []

    def described(self) -> dict[str, Any]:
        """With the content of the requests that a package ships, and of tasks of one's own, wherever they lie."""
        files = {plan.task: packaged.digest(plan.task) for plan in self.tasks if packaged.is_packaged(plan.task)}
        said = super().described()
        tasks = [{**plan, "task": own.identity(plan["task"])} for plan in said["tasks"]]
        return {**said, "tasks": tasks, **({"packaged": files} if files else {})}
