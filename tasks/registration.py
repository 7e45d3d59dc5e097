"""The resources, and the ranks and nodes, for which tasks are registered. They are read from environment variables, as no
recipe is known at registration, and set in the pods too, because each pod declares the tasks anew."""

from __future__ import annotations

import os

from lehr.config.compute import Resources
from lehr.config.recipe import Recipe
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError

RESOURCES, RANKS = "LEHR_TASK_RESOURCES", "LEHR_TASK_RANKS"
_SMALL = Resources(cpu="1", memory="2Gi")
_WORDS = {"cpu": "cpu", "mem": "memory", "gpu": "gpus"}
_REMEDY = {RESOURCES: "write cpu=32,mem=256Gi,gpu=8", RANKS: "write nodes=4,ranks=8 (ranks on each node)"}


def _parts(variable: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, amount = part.partition("=")
        if name not in known or not amount:
            raise UserError(f"{part!r} is not a known amount", where=variable, remedy=_REMEDY[variable])
        found[name] = amount
    return found


def resources(text: str) -> Resources:
    """Resources of a task that computes with the model, from `cpu=32,mem=256Gi,gpu=8`. Raises UserError for other text."""
    parts = _parts(RESOURCES, text, tuple(_WORDS))
    try:
        values = {_WORDS[name]: int(amount) if name == "gpu" else amount for name, amount in parts.items()}
        return Resources.model_validate(values)
    except ValueError as error:
        raise UserError(f"{text!r} is not valid ({type(error).__name__})", where=RESOURCES, remedy=_REMEDY[RESOURCES]) from None


def registered(resource_class: str) -> Resources:
    """The resources for which tasks of this class are registered. Only tasks that compute with the model get GPUs."""
    return _SMALL if resource_class == "cpu" else resources(os.environ.get(RESOURCES, ""))


def counts(text: str) -> tuple[int, int]:
    """(nodes, ranks per node) from `nodes=4,ranks=8`. Raises UserError for other text."""
    found = {"nodes": 1, "ranks": 1}
    for name, amount in _parts(RANKS, text, tuple(found)).items():
        number = digits(amount)
        if not number:
            raise UserError(f"'{name}={amount[:40]}' is not a positive whole number", where=RANKS, remedy=_REMEDY[RANKS])
        found[name] = number
    return found["nodes"], found["ranks"]


def asked(recipe: Recipe, name: str, resource_class: str) -> Resources:
    """What the pod of the stage `name` asks for: as the recipe says, else as LEHR_TASK_RESOURCES does."""
    return recipe.compute.of(name, resource_class) or registered(resource_class)


def wanted(recipe: Recipe, name: str, resource_class: str) -> Resources:
    """The resources for the pod of stage `name`: the recipe's, or else the registered ones. Raises UserError for another
    number of GPUs than the task's preflight was registered to check."""
    own = recipe.compute.of(name, resource_class)
    known = registered(resource_class)
    if own is None:
        return known
    if own.gpus != known.gpus and resource_class != "cpu":
        raise UserError(
            f"the tasks were registered for {known.gpus} GPUs, which their preflight checks; {name} asks for {own.gpus}",
            where="compute",
            remedy=f"register with {RESOURCES}=gpu={own.gpus}, or change it",
        )
    return own


def check(recipe: Recipe) -> None:
    """Raise UserError if the tasks were registered for another number of ranks than the recipe needs."""
    nodes, ranks = counts(os.environ.get(RANKS, ""))
    processes = recipe.parallel.processes
    if nodes * ranks not in (1, processes):
        raise UserError(
            f"the tasks were registered for {nodes * ranks} ranks, the recipe asks for {processes}",
            where=f"parallel.processes={processes}",
            remedy=f"set parallel.processes={nodes * ranks}, or register with another {RANKS}",
        )
