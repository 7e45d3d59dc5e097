"""The evaluation tasks that a recipe names: whether they can be scored, and which ones its training texts are compared with."""

from __future__ import annotations

from pathlib import Path

from lehr.config.posttraining import MergeStep
from lehr.config.recipe import Recipe
from lehr.evals import own
from lehr.evals.hard_requests import check_windows
from lehr.evals.suites import NEEDS_CORPUS, TASKS, check_splits, check_task
from lehr.runtime.errors import UserError


def check_tasks(recipe: Recipe) -> None:
    """Raises UserError for a task that does not exist, for one of held-back documents where there are none, and for whatever is
    wrong in the files of one's own. Files that are not there are left to lehr.config.runnable: a pinned recipe is also read
    where its files are not."""
    names = _own_names(recipe)
    for headline in recipe.evaluation.headline:
        if (name := headline.partition("/")[0]) not in names:
            check_task(name, "evaluation.headline")
    for plan in recipe.evaluation.tasks:
        check_named(plan.task, "evaluation.tasks")
        if not own.is_own(plan.task) or Path(plan.task).is_file():
            check_splits(plan.task, plan.splits, "evaluation.tasks")
            _check_texts(plan.task, recipe)
        if plan.task in NEEDS_CORPUS and recipe.data is None:
            what = f"evaluation.tasks: {plan.task} scores held-back documents, but the recipe has no data"
            raise UserError(what, remedy="remove the task, or add data")
    for step in recipe.posttraining if recipe.data is None else ():
        if isinstance(step, MergeStep) and step.search and (task := step.search.task) in NEEDS_CORPUS:
            what = f"posttraining.{step.name}.search: {task} scores held-back documents, but the recipe has no data"
            raise UserError(what, remedy="name another task, or add data")


def _check_texts(task: str, recipe: Recipe) -> None:
    """Raises UserError for texts that are to be read in windows longer than the recipe's model accepts, or compared by whole
    paragraphs where a comparison finds none."""
    if not own.is_own(task):
        return
    check_windows(own.name_of(task), own.loaded(task).examples, recipe.model.max_seq_len)
    compared = {
        "data.decontamination.paragraphs": recipe.data.decontamination.paragraphs if recipe.data else True,
        "chat.decontaminate_paragraphs": recipe.chat.decontaminate_paragraphs,
    }
    for key, value in compared.items() if own.by_paragraph(task) else ():
        if value is None:
            what = f"{own.name_of(task)} is to be compared with training documents by paragraphs, and {key} is null"
            raise UserError(what, where=task, remedy=f"leave {key} out, or the task's `decontaminate`")


def check_named(task: str, key: str) -> None:
    """Raises UserError for a task that does not exist, but for a file that is not there."""
    if not own.is_own(task) or Path(task).is_file():
        check_task(task, key)


def _own_names(recipe: Recipe) -> dict[str, str]:
    """The names of the tasks of one's own, each with its file. Raises UserError for a name that two tasks have."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(plan.task for plan in recipe.evaluation.tasks if own.is_own(plan.task)):
        name = own.name_of(path) if Path(path).is_file() else Path(path).stem
        if name in TASKS or name in found:
            other = found.get(name, "built in")
            raise UserError(f"the task {name} is {other} too", where=path, remedy="give it another `name`")
        found[name] = path
    return found


def compared_tasks(recipe: Recipe) -> list[str]:
    """All built-in tasks and those that are scored: a built-in one that is added later leaves what was trained on as it is."""
    return list(dict.fromkeys([*TASKS, *(plan.task for plan in recipe.evaluation.tasks)]))
