"""Stages in tests: any function as one, and those of a recipe's graph one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lehr.artifacts.artifact import Artifact, ArtifactRef, Kind
from lehr.config import Recipe
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.graph import graph
from lehr.pipeline.local import run_node
from lehr.pipeline.run import run_stage
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.ports import Store, Tracker


class AnyConfig(StageConfig):
    """Whatever a test's stage depends on."""

    values: dict[str, Any] = {}

    def described(self) -> dict[str, Any]:
        return self.values


def made(
    store: Store,
    work: Callable[[Attempt], Outcome],
    name: str = "t",
    *,
    output: Kind = "checkpoint",
    values: dict[str, Any] | None = None,
    parents: Sequence[Artifact] = (),
    tracker: Tracker | None = None,
) -> ArtifactRef:
    """`work` as the stage `name`, found again or run."""

    def run(config: AnyConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
        return work(attempt)

    roles: dict[str, Role] = {p.manifest.kind: Role(p.manifest.kind, many=True) for p in parents}
    spec = StageSpec("test", AnyConfig, roles, output, "cpu", "data", run)
    given: dict[str, list[Artifact]] = {}
    for parent in parents:
        given.setdefault(parent.manifest.kind, []).append(parent)
    context = StageContext(store, tracker) if tracker else StageContext(store)
    return run_stage(spec, name, AnyConfig(values=values or {}), spec.inputs(given), context)


def made_of(
    recipe: Recipe, names: Sequence[str], context: StageContext, refs: Mapping[str, ArtifactRef] | None = None
) -> dict[str, Artifact]:
    """Those stages of the recipe's graph, one after the other, from each other and from `refs`; as the context finds them."""
    known, out = dict(refs or {}), dict[str, Artifact]()
    nodes = {node.name: node for node in graph(recipe)}
    for name in names:
        known[name] = run_node(nodes[name], known, context)
        out[name] = Artifact.open(context.fetch(known[name].uri), uri=known[name].uri)
    return out
