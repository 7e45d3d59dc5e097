"""A recipe's graph as a Flyte workflow.

pyflyte run workflows/run.py run --recipe recipes/tiny/olmo2.yaml --out runs/tiny-olmo2
"""

from __future__ import annotations

from flytekit import dynamic, workflow
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.pipeline.registry import stage
from tasks.asked import wanted
from tasks.opening import open_run, resolved, start
from tasks.owned import owned
from tasks.stages import TASKS, amounts, report, settings


@dynamic(**settings("cpu"))
@owned(FlyteRecoverableException)
def stages(recipe: str, out: str, overrides: list[str]) -> str:
    """One node a stage, under its own name. What exists already becomes none, and needs no pod."""
    opened = open_run(resolved(recipe, overrides), out)
    got = start(opened)
    for node in opened.nodes:
        if node.name in got:
            continue
        of = stage(node.kind).resources
        made = TASKS[of](run=opened.run, node=node.name, inputs={name: got[name] for name in node.sources})
        got[node.name] = made.with_overrides(node_name=node.name, **amounts(wanted(opened.recipe, node.name, of)))
    return report(run=opened.run, artifacts=got).with_overrides(node_name="report")


@workflow
def run(recipe: str = "recipes/tiny/olmo2.yaml", out: str = "", overrides: list[str] = []) -> str:  # noqa: B006
    """`recipe` is a path, `out` the run's folder or s3:// address (default runs/NAME), `overrides` like `stage1.tokens=200000`.

    Every stage finds its artifact again if it has been made; where the report is, is returned.
    """
    return stages(recipe=recipe, out=out, overrides=overrides)
