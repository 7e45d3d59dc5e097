"""The Flyte tasks of a stage whose files are shared out among pods (tasks/parts.py), and how they follow each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from flytekit import PythonFunctionTask, map_task, task
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.artifacts.artifact import ArtifactRef
from lehr.data.preparation.pace import STEPS
from lehr.pipeline.node import Node
from lehr.stages.documents import DocumentsConfig
from lehr.tasks import parts
from lehr.tasks.owned import owned
from lehr.tasks.refs import RunRef
from lehr.tasks.requests import default
from lehr.tasks.stages import settings

Inputs = dict[str, ArtifactRef]


@task(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def before(run: RunRef, node: str, inputs: Inputs, step: str, work: str, done: list[int]) -> str:
    """What of a stage comes before a pass over its files, of which all earlier passes are `done`."""
    return parts.before(run, node, inputs, step, work)


@task(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def share(run: RunRef, node: str, inputs: Inputs, step: str, work: str, part: list[int]) -> int:
    """One share of a pass over the files: `part` is its number and how many there are."""
    return parts.share(run, node, inputs, step, work, (part[0], part[1]))


@task(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def collect(run: RunRef, node: str, inputs: Inputs, work: str, done: list[int]) -> ArtifactRef:
    """The stage itself, whose passes are all done."""
    return parts.collect(run, node, inputs, work)


def pods_of(node: Node) -> int:
    """The pods that share a stage's files; 0 for one that has none, or none to share."""
    return _pods(node.config) if isinstance(node.config, DocumentsConfig) else 0


def _pods(config: DocumentsConfig) -> int:
    return config.data.pods


def shared(given: dict[str, Any], name: str, pods: int, made: Callable[[PythonFunctionTask[Any]], Any]) -> Any:
    """The artifact of the stage `name`, as a promise. `given` is what every task of it is given; `made` makes a task for the
    pods that the recipe asks for. Each pass is a map task of `pods` elements, all at once."""
    one, many, last = (made(each) for each in (before, share, collect))
    # One map task for all passes: the engine knows a task by its name, which flytekit makes of the function's.
    mapped = map_task(partial(many, **given, step="", work=""))
    work: Any = ""
    done: Any = list[int]()
    for step in STEPS:
        work = one(**given, step=step, work=work, done=done).with_overrides(node_name=f"{name}-before-{step}")
        each = mapped(step=step, work=work, part=[[number, pods] for number in range(pods)])
        done = each.with_overrides(node_name=f"{name}-{step}")
    return last(**given, work=work, done=done).with_overrides(node_name=name)
