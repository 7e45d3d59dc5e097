"""The evaluation tasks that a recipe names: whether they can be scored, and which ones its training texts are compared with."""

from __future__ import annotations

from lehr.config.posttraining import MergeStep
from lehr.config.recipe import Recipe
from lehr.evals import packaged
from lehr.evals.suites import NEEDS_CORPUS, TASKS, check_task
from lehr.runtime.errors import UserError


def check_tasks(recipe: Recipe) -> None:
    """Raises UserError for a task that does not exist, and for one of held-back documents where there are none."""
    for name in recipe.evaluation.headline:
        check_task(name.partition("/")[0], "evaluation.headline")
    for plan in recipe.evaluation.tasks:
        check_task(plan.task, "evaluation.tasks")
        if packaged.is_packaged(plan.task):
            packaged.check_splits(plan.task, plan.splits, "evaluation.tasks")
        if plan.task in NEEDS_CORPUS and recipe.data is None:
            what = f"evaluation.tasks: {plan.task} scores held-back documents, but the recipe has no data"
            raise UserError(what, remedy="remove the task, or add data")
    for step in recipe.posttraining if recipe.data is None else ():
        if isinstance(step, MergeStep) and step.search and (task := step.search.task) in NEEDS_CORPUS:
            what = f"posttraining.{step.name}.search: {task} scores held-back documents, but the recipe has no data"
            raise UserError(what, remedy="name another task, or add data")


def compared_tasks(recipe: Recipe) -> list[str]:
    """All built-in tasks and those that are scored: a built-in one that is added later leaves what was trained on as it is."""
    return list(dict.fromkeys([*TASKS, *(plan.task for plan in recipe.evaluation.tasks)]))
