"""The merge of several checkpoints into one, with weights that are given or searched on dev."""

from __future__ import annotations

from lehr.config.ancestry import nearest_common
from lehr.config.base import NonNegative, Positive
from lehr.config.merging import OF_DIFFERENCES, MergeMethod, MergeSearch
from lehr.config.names import is_address
from lehr.config.posttraining import MergeStep
from lehr.evals.own import is_own
from lehr.evals.suites import NEEDS_CORPUS, NEEDS_PAIRS, check_task, metrics_of
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import find


class MergeConfig(StageConfig):
    """`seed` decides what DARE drops."""

    how: MergeMethod
    seed: NonNegative


class SearchedMergeConfig(RankedConfig):
    """A merge whose weights are searched first: the same settings, and those of its scores."""

    how: MergeMethod
    search: MergeSearch
    max_new_tokens: Positive
    window_tokens: NonNegative
    seed: NonNegative


def run(config: MergeConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Merge the parents. Raises UserError if they do not belong together."""
    from lehr.post.merge_work import Merge, Places, merged

    work = Merge(inputs.many("parents"), inputs.get("base"), config.how, config.seed, Places.of(attempt.context))
    return Outcome(merged(work, attempt.out, config.how.weights or [1.0] * len(work.parents)))


def run_searched(config: SearchedMergeConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Search the weights on dev, then merge with the best ones. Raises UserError if the parents do not belong together, and if
    the task has no such metric."""
    from lehr.post.merge_scores import Scoring, searched
    from lehr.post.merge_work import Merge, Places, merged

    work = Merge(inputs.many("parents"), None, config.how, config.seed, Places.of(attempt.context))
    documents = inputs.get("documents")
    found = searched(work, Scoring(config, documents.folder if documents else None), attempt)
    return Outcome({**merged(work, attempt.out, list(found.weights)), "search": found.said})


def expand(step: MergeStep, place: StepContext) -> list[Node]:
    """One node. Raises UserError for a search by what no task is scored with."""
    how = MergeMethod.model_validate(step.model_dump(include=set(MergeMethod.model_fields)))
    inputs = {"parents": tuple(place.reference(name) for name in step.parents)}
    if step.search:
        documents = {"documents": ("documents",)} if step.search.task in NEEDS_CORPUS else {}
        return [Node(step.name, "searched_merge", _searched(step, how, step.search, place), {**inputs, **documents})]
    base = step.base or ("" if any(map(is_address, step.parents)) else nearest_common(place.models, step.parents))
    if base and how.method in OF_DIFFERENCES:
        inputs |= {"base": (place.reference(base),)}
    return [Node(step.name, "merge", MergeConfig(how=how, seed=place.seed(step.name)), inputs)]


def _searched(step: MergeStep, how: MergeMethod, search: MergeSearch, place: StepContext) -> SearchedMergeConfig:
    key, task = f"posttraining.{step.name}.search", search.task
    if is_own(task):
        raise UserError(f"{key}.task: a search takes the built-in tasks", remedy="name one of them; score your own afterwards")
    check_task(task, f"{key}.task")
    if task in NEEDS_PAIRS:
        raise UserError(f"{key}.task: {task} scores pairs, which a merge has none of", remedy="name another task")
    known = [name for name in metrics_of(task) if (metric := find(name)) and metric.better]
    if search.metric not in known:
        raise UserError(f"{key}.metric: {task} has no {search.metric!r} to search by", remedy=f"name one of {', '.join(known)}")
    return SearchedMergeConfig(
        how=how, search=search, max_new_tokens=place.answer_tokens, window_tokens=place.window_tokens,
        seed=place.recipe_seed, parallel=place.parallel,
    )  # fmt: skip


_PARENTS = Role("checkpoint", many=True)
SPEC = StageSpec(
    "merge",
    MergeConfig,
    {"parents": _PARENTS, "base": Role("checkpoint", optional=True)},
    "checkpoint",
    "cpu",
    "post-training",
    run,
    expand=expand,
)
# A kind of its own, for its pod scores models.
SEARCHED = StageSpec(
    "searched_merge",
    SearchedMergeConfig,
    {"parents": _PARENTS, "documents": Role("documents", optional=True)},
    "checkpoint",
    "accelerator",
    "post-training",
    run_searched,
    total_steps=lambda config, inputs: config.search.points,
)
