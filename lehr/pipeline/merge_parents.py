"""What can be known before a run of the merges in its graph: whether the models that exist already belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lehr.artifacts.ancestry import models_above
from lehr.artifacts.artifact import Artifact
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.node import Node
from lehr.runtime.errors import UserError


def check_merges(nodes: Sequence[Node], given: Mapping[str, Artifact], context: StageContext) -> None:
    """`given` are the artifacts of other runs, by address. Raises UserError if parents of a merge, or its base, among them do
    not belong together, or if one has no ancestor in common with the model from which this run begins."""
    merges = [node for node in nodes if "parents" in node.inputs]
    if not any(name in given for node in merges for name in node.sources):
        return
    from lehr.post.merge import check_parents  # late: it loads torch

    def opener(uri: str) -> Artifact:
        return Artifact.open(context.fetch(uri), verify=False, uri=uri)

    known = {name: set(models_above(artifact, opener)) for name, artifact in given.items()}
    above = _Above({node.name: node for node in nodes}, known)
    for node in merges:
        direct = [given[name] for name in node.inputs["parents"] if name in given]
        base = next((given[name] for name in node.inputs.get("base", ()) if name in given), None)
        if len(direct) > 1:
            check_parents(direct, opener, base)
        _check_steps(node, above, base)


class _Above:
    """The digests of the models of other runs from which a model of this run will come; none for one that begins with
    pretraining, or with documents alone."""

    def __init__(self, nodes: Mapping[str, Node], known: Mapping[str, set[str]]) -> None:
        self._nodes, self._known = nodes, known

    def __call__(self, name: str) -> set[str]:
        if name in self._known or name not in self._nodes:
            return self._known.get(name, set())
        inputs = self._nodes[name].inputs
        return set[str]().union(*map(self, (*inputs.get("parent", ()), *inputs.get("parents", ()))))


def _check_steps(node: Node, above: _Above, base: Artifact | None) -> None:
    """The steps of this run among the parents against the addresses: a step that is not made yet is an ancestor of no address,
    so what they share is above the model from which the run begins."""
    found = {name: digests for name in node.inputs["parents"] if (digests := above(name))}
    if base is not None:
        for name, digests in found.items():
            if base.manifest.digest not in digests:
                what = f"{node.name} merges differences to it, and its parent {name} does not come from it"
                raise UserError(what, where=base.folder, remedy="name an ancestor of all parents as base, or none")
    if found and not set[str].intersection(*found.values()):
        what = f"the parents of {node.name} have no ancestor in common: {', '.join(found)}"
        raise UserError(
            what, where=f"posttraining.{node.name}.parents", remedy="merge models that were trained from one checkpoint"
        )
