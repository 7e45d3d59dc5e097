"""Whether this version can run a recipe, or only plan it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from lehr.config.own_task import TASK_ENDS
from lehr.config.posttraining import (
    BestOfNStep,
    BrainStep,
    DpoStep,
    GrpoStep,
    MergeStep,
    PostStep,
    PpoStep,
    RewardModelStep,
    SelfKnowledgeStep,
    SftStep,
    Tuning,
)
from lehr.config.recipe import Recipe
from lehr.config.sources import ExternalSource, FilesSource
from lehr.config.text_models import names_file
from lehr.runtime.errors import UserError

Lack = tuple[str, str]  # what is missing, what to do about it


def check_runnable(recipe: Recipe) -> None:
    """Raises UserError, with one line for each thing that is missing: what must be supplied, and steps that cannot be run."""
    lacks = [*_supplied(recipe), *_named(recipe)]
    if lacks:
        *_, (what, remedy) = lacks
        lacks[-1] = what, f"{remedy}. `lehr plan` works without all this"
        raise _refused(recipe, lacks)


def check_files(recipe: Recipe) -> None:
    """Raises UserError, with one line for each file and folder of this machine that the recipe names and that is not there."""
    if lacks := [*_named(recipe)]:
        raise _refused(recipe, lacks)


def still_to_supply(recipe: Recipe) -> list[str]:
    """A line for each thing that a recipe leaves to whoever runs it."""
    return [f"{what}; {remedy}" for what, remedy in _supplied(recipe)]


def _refused(recipe: Recipe, lacks: Sequence[Lack]) -> UserError:
    first, *more = (UserError(what, where=f"recipe {recipe.name}", remedy=remedy) for what, remedy in lacks)
    first.more = tuple(more)
    return first


def _supplied(recipe: Recipe) -> Iterator[Lack]:
    yield from _sources(recipe)
    yield from _tokenizer(recipe)
    for step in recipe.posttraining:
        yield from _step(step)


def _named(recipe: Recipe) -> Iterator[Lack]:
    yield from _files(recipe)
    yield from _filters(recipe)


def _sources(recipe: Recipe) -> Iterator[Lack]:
    sources = recipe.data.sources if recipe.data else {}
    absent = {name: source for name, source in sources.items() if isinstance(source, ExternalSource)}
    if absent:
        first, source = next(iter(absent.items()))
        form = "put its files on a disk or into a bucket and set data.sources.NAME.path to that place"
        yield (
            f"{len(absent)} source{'s' if len(absent) > 1 else ''} must be supplied: {', '.join(absent)}",
            f"for each source, {form}; {first} is at {source.uri}, its licence {source.license}",
        )


def _files(recipe: Recipe) -> Iterator[Lack]:
    """Missing files, reported before any folder is made. The stages that read the files check their content."""
    for name, source in (recipe.data.sources if recipe.data else {}).items():
        if isinstance(source, FilesSource):
            yield from _path(f"data.sources.{name}.path", source.path)
    for name, chat in recipe.chat.sources.items():
        yield from _path(f"chat.sources.{name}.path", chat.path)
    for task in own_tasks(recipe):
        if not Path(task).is_file():
            yield f"evaluation.tasks: {task}: no such file", "correct the path, which is relative to its recipe"


def own_tasks(recipe: Recipe) -> list[str]:
    """The files of the tasks of one's own that a recipe names, each once."""
    apart = [*(recipe.data.decontamination.tasks or () if recipe.data else ()), *(recipe.chat.decontaminate_tasks or ())]
    named = [*(plan.task for plan in recipe.evaluation.tasks), *apart]
    return list(dict.fromkeys(task for task in named if task.endswith(TASK_ENDS)))


def _path(key: str, path: str) -> Iterator[Lack]:
    if "://" in path:
        if not path.startswith("s3://"):
            what = f"{key}={path}: such addresses are not read"
            yield what, "copy the files here or into a bucket, and name the copy (s3://BUCKET/FOLDER)"
    elif not has_magic(path) and not Path(path).exists():
        yield f"{key}={path}: no such file", "correct the path, which is relative to its recipe"


def _filters(recipe: Recipe) -> Iterator[Lack]:
    """Missing files of filters."""
    for name, config in (recipe.data.filters if recipe.data else {}).items():
        for key in config.files:
            path = getattr(config, key)
            if key == "model" and not names_file(path):  # trained by this run, or looked for when the recipe was read
                continue
            if path and not Path(path).exists():
                yield f"data.filters.{name}.{key}={path}: no such file", "correct the path, which is relative to its recipe"


def _tokenizer(recipe: Recipe) -> Iterator[Lack]:
    tokenizer = recipe.tokenizer
    if tokenizer and tokenizer.origin and not tokenizer.path:
        yield (
            f"the tokenizer must be supplied: {tokenizer.origin}",
            "set tokenizer.path to the tokenizer's file, or tokenizer.origin to '' to train one",
        )


def _step(step: PostStep) -> Iterator[Lack]:
    """The missing settings of a step."""
    key = f"posttraining.{step.name}"
    if isinstance(step, RewardModelStep) and step.loss == "contrastive":  # trains nothing
        if not step.against:
            what = f": {step.supply}" if step.supply else ", and the weaker model is not given"
            yield f"{key}: its data must be supplied{what}", "give the weaker model in `against`"
        return
    own = {
        SftStep: ("examples",), DpoStep: ("pairs", "examples"), RewardModelStep: ("pairs", "examples"),
        **dict.fromkeys((GrpoStep, PpoStep, BrainStep, BestOfNStep), ("families", "examples")),
    }  # fmt: skip
    keys = next((names for kind, names in own.items() if isinstance(step, kind)), ())
    if keys and not any(getattr(step, name) for name in keys):
        yield (
            f"{key}: its data must be supplied{f': {step.supply}' if step.supply else ''}",
            f"give {step.kind} its {' or its '.join(keys)}: sources of your own in chat.sources, or generated ones",
        )
    if isinstance(step, MergeStep) and not step.parents:
        yield (
            f"{key}: its parents must be supplied{f': {step.supply}' if step.supply else ''}",
            "name them in parents: steps before it, or checkpoints of other runs",
        )
    if isinstance(step, SelfKnowledgeStep):
        if step.about is None:
            yield f"{key}: who the model is must be given", "give it about: name, makers, license and abilities"
        if not step.samples:
            yield f"{key}: its samples are not given", "give it the number of questions about itself"
    if not isinstance(step, Tuning):
        return
    if step.optim is None:
        yield f"{key}: its learning rate is not given", "give a step its optim.lr"
    reads = isinstance(step, SftStep | DpoStep) and bool(step.examples)
    # The rows of an epoch are counted when they are read; filled up to tokens, one epoch of the samples is a length too.
    counted = isinstance(step, RewardModelStep | BestOfNStep | SelfKnowledgeStep) or (
        reads and bool(step.epochs or (step.batch_tokens and step.samples))
    )
    if step.batch_tokens and not isinstance(step, SftStep):
        yield f"{key}: batch_tokens is run for kind sft alone", "give the step its batch_size instead"
    elif not step.batch_size and not step.batch_tokens:
        yield f"{key}: its batch_size is not given", "give a step its batch_size"
    elif not step.total_steps and not counted:
        yield f"{key}: its length is not given", "give a step its steps, or its epochs"
