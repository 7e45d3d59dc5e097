"""A recipe's graph as a Flyte workflow.

pyflyte run workflows/run.py run --recipe recipes/tiny/olmo2.yaml --out runs/tiny-olmo2
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

from flytekit import PythonFunctionTask, dynamic, workflow
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.artifacts.artifact import ArtifactRef
from lehr.pipeline.node import REPORT, Node, pieces
from lehr.pipeline.registry import stage
from lehr.tasks.opening import Opened, in_flyte, labels, open_run, opened, resolved, start
from lehr.tasks.owned import owned
from lehr.tasks.part_tasks import pods_of, shared
from lehr.tasks.refs import RunRef
from lehr.tasks.requests import default, request, requests
from lehr.tasks.stages import TASKS, report, settings, task_of

MOST_NODES = 100  # in one graph: each brings the specification of its pod, which the engine loads as one file
MOST_PATHS = 5000  # in one graph. Measured on Flyte 1.16.8: the engine walks every path each round, half a millisecond each


def make(this: Opened, nodes: list[Node], got: dict[str, Any]) -> dict[str, Any]:
    """Add to `got` a Flyte node for each of `nodes`, under the stage's name. `got` holds the artifacts of earlier stages."""
    for node in nodes:
        given = {"run": this.run, "node": node.name, "inputs": {name: got[name] for name in node.sources}}
        if pods := pods_of(node):
            got[node.name] = shared(given, node.name, pods, partial(stage_task, this, node))
            continue
        got[node.name] = stage_task(this, node, TASKS[stage(node.kind).resources])(**given).with_overrides(node_name=node.name)
    return got


def stage_task(this: Opened, node: Node, task: PythonFunctionTask[Any]) -> Any:
    """A task of a stage, for the pods that the recipe asks for."""
    return task_of(task, node.name, request(this.recipe, node), labels(this, node.name))


@dynamic(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def piece(run: RunRef, names: list[str], have: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """A part of a graph that has too many paths for one: the parts before it have ended, so their edges no longer count."""
    this = opened(run)
    return make(this, [node for node in this.nodes if node.name in names], dict(have))


def whole(this: Opened) -> Any:
    """One Flyte node for each stage, then the report. Stages whose artifacts exist get no node, and so need no pod."""
    asked = requests(this.recipe, this.nodes)  # what no cluster could give is said before the first pod
    got: Any = start(this)
    parts = pieces([node for node in this.nodes if node.name not in got], MOST_PATHS, MOST_NODES)
    if len(parts) == 1:
        got = make(this, parts[0], got)
    else:
        for number, part in enumerate(parts, start=1):
            made = piece(run=this.run, names=[node.name for node in part], have=got)
            got = made.with_overrides(node_name=f"part-{number}")
    last = task_of(report, REPORT, asked[REPORT], labels(this, REPORT))
    return last(run=this.run, artifacts=got).with_overrides(node_name=REPORT)


@dynamic(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def stages(recipe: str, out: str, overrides: list[str]) -> str:
    """The graph of a run that is opened here."""
    sets = [part for override in overrides for part in ("--set", override)]
    repeated = shlex.join(["lehr", "run", recipe, "--out", out, *sets]) if in_flyte() else ""
    return whole(open_run(resolved(recipe, overrides), out, recipe, repeated))


@dynamic(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def stages_of(run: RunRef) -> str:
    """The graph of a run that `lehr submit` opened."""
    return whole(opened(run))


@workflow
def submitted(run: RunRef) -> str:
    """A run that `lehr submit` has pinned in its store. Returns the report's address."""
    return stages_of(run=run)


@workflow
def run(recipe: str = "tiny/olmo2", out: str = "", overrides: list[str] = []) -> str:  # noqa: B006
    """`recipe` is a path or the name of a shipped recipe, `out` the run's folder or s3:// address (default runs/NAME),
    `overrides` are like `stage1.tokens=200000`.

    Stages that were made before are found and not repeated. Returns the report's path or address.
    """
    return stages(recipe=recipe, out=out, overrides=overrides)
