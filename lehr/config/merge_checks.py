"""Conditions of the merges of a recipe. Each check raises ValueError: `key: what is wrong; what to do`."""

from __future__ import annotations

from lehr.config.ancestry import MadeOf, ancestors, made_of, nearest_common
from lehr.config.merging import OF_DIFFERENCES
from lehr.config.names import is_address
from lehr.config.parts import RecipeParts
from lehr.config.posttraining import MergeStep


def merges(r: RecipeParts) -> None:
    """Parents are two or more language models that come first and share an ancestor, with settings for each."""
    models, before = made_of(r), [r.base_stage]
    judges = {step.name for step in r.posttraining if step.kind == "reward_model"}
    for step in r.posttraining:
        if isinstance(step, MergeStep):
            _check_settings(step)
            _check_parents(step, before, judges)
            _check_base(step, before, models)
        before.append(step.name)


def _check_settings(step: MergeStep) -> None:
    key, count = f"posttraining.{step.name}", len(step.parents)
    if step.parent:
        raise ValueError(f"{key}.parent={step.parent!r}: a merge has several; name them in parents, and remove parent")
    if step.search and (step.method != "linear" or step.weights):
        what = "weights are given" if step.weights else f"the method is {step.method}"
        raise ValueError(f"{key}.search: it searches weights of the linear method, and {what}; remove one of the two")
    if step.base and step.method not in OF_DIFFERENCES:
        raise ValueError(f"{key}.base: {step.method} needs no ancestor; remove it, or take {' or '.join(OF_DIFFERENCES)}")
    if count and step.weights and len(step.weights) != count:
        raise ValueError(f"{key}.weights: {len(step.weights)} for {count} parents; give each parent one")
    if step.method == "slerp" and count > 2:
        raise ValueError(f"{key}.parents: {count} models, and slerp goes from one to another; name two")


def _check_parents(step: MergeStep, before: list[str], judges: set[str]) -> None:
    key = f"posttraining.{step.name}.parents"
    if len(step.parents) == 1:
        raise ValueError(f"{key}: one model alone, {step.parents[0]}; a merge needs two or more")
    for number, name in enumerate(step.parents):
        if name in step.parents[:number]:
            raise ValueError(f"{key}: {name!r} stands twice; give a weight instead")
        if name in judges:
            raise ValueError(f"{key}: {name!r} is a reward model; name language models")
        _check_named(key, name, before)


def _check_named(key: str, name: str, before: list[str]) -> None:
    if not is_address(name) and name not in before:
        known = ", ".join(before)
        raise ValueError(f"{key}: {name!r} is not a model before this step, and no path; those are: {known}")


def _check_base(step: MergeStep, before: list[str], models: MadeOf) -> None:
    """The ancestor, as far as the recipe knows it: of models from other runs the stage itself finds it."""
    if step.method not in OF_DIFFERENCES or not step.parents:
        return
    key = f"posttraining.{step.name}.base"
    if step.base:
        _check_named(key, step.base, before)
    base = step.base or nearest_common(models, step.parents)
    if base in step.parents:
        raise ValueError(f"{key}: {base!r} is a parent too, and has no difference to itself; leave it out of parents")
    others = [name for name in step.parents if not is_address(name) and base not in ancestors(models, name)]
    if base and not is_address(base) and others:
        raise ValueError(f"{key}={base!r} is no ancestor of {', '.join(others)}; name one, or leave base out")
