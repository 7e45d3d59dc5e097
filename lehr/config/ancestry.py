"""Which model of a recipe's post-training is made from which, by names alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lehr.config.parts import RecipeParts
from lehr.config.posttraining import MergeStep, RewardModelStep, Step

MadeOf = Mapping[str, tuple[str, ...]]  # a model's name -> the names or addresses that it is made from; in the recipe's order


def origins(step: Step, last: str) -> tuple[str, ...]:
    """The models that a step begins with; `last` is the one before it."""
    if isinstance(step, MergeStep) and step.parents:
        return tuple(step.parents)
    return (step.parent or last,)


def made_of(recipe: RecipeParts) -> dict[str, tuple[str, ...]]:
    """The model in which pretraining ends, and that of each step after it; no reward models."""
    found: dict[str, tuple[str, ...]] = {recipe.base_stage: ()}
    last = recipe.base_stage
    for step in recipe.posttraining:
        if isinstance(step, RewardModelStep):  # no language model
            continue
        found[step.name] = origins(step, last)
        last = step.name
    return found


def ancestors(models: MadeOf, name: str) -> set[str]:
    """`name` and all that it is made from, as far as the recipe knows: nothing is known of an address."""
    seen, waiting = set[str](), [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += models.get(current, ())
    return seen


def nearest_common(models: MadeOf, names: Sequence[str]) -> str:
    """The last model in the recipe's order that all of `names` are, or come from; empty if the recipe knows of none."""
    shared = set[str].intersection(*(ancestors(models, name) for name in names))
    return next((name for name in reversed(list(models)) if name in shared), "")
