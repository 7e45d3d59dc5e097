"""Running a graph in this process: node after node in the graph's order, each found again if its artifact exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lehr.artifacts.artifact import Artifact, ArtifactRef, Manifest
from lehr.config.names import is_address
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.explain import outlook
from lehr.pipeline.merge_parents import check_merges
from lehr.pipeline.node import Node
from lehr.pipeline.registry import stage
from lehr.pipeline.run import Identity, found_again, run_stage
from lehr.pipeline.spec import Inputs

Refs = dict[str, ArtifactRef]
Check = Callable[[Node, ArtifactRef], None]


@dataclass(frozen=True)
class Finished:
    """The artifacts of a graph by node, including the addresses it began from, and which nodes were found again."""

    refs: Refs
    reused: frozenset[str]


def _nothing(node: Node, made: ArtifactRef) -> None:
    """The default: no further check."""


def run_graph(
    nodes: Sequence[Node], context: StageContext, earlier: Sequence[Manifest] = (), check: Check = _nothing
) -> Finished:
    """Make the artifacts that do not exist yet; for `earlier` artifacts in the same place, note why they cannot be reused.
    `check` is called for each artifact before a stage after it begins. Raises what the stages and `check` raise, and before
    any of them UserError where something that a stage needs is not there."""
    seen = survey(nodes, context, earlier)
    found, refs = seen.found, {**seen.given, **seen.found}
    for node in nodes:
        if node.name in found:
            found_again(stage(node.kind), node.name, node.config, found[node.name].uri, context)
    if found:
        context.tracker.note(_said(nodes, found))
    for line in seen.changed:
        context.tracker.note(line)
    for node in nodes:
        if node.name not in found:
            stage(node.kind).ready(node.config)
    for node in nodes if len(found) < len(nodes) else ():  # else no stage is left that a check could spare
        if node.name not in found:
            refs[node.name] = run_node(node, refs, context)
        check(node, refs[node.name])
    return Finished(refs, frozenset(found))


@dataclass(frozen=True)
class Survey:
    """A graph before a run: the given artifacts of other runs, the nodes' artifacts that exist, and a line for each reason why
    others are made anew although the place has artifacts of the same name."""

    given: Refs
    found: Refs
    changed: list[str]


def survey(nodes: Sequence[Node], context: StageContext, earlier: Sequence[Manifest] = ()) -> Survey:
    """What a run of this graph would find. Raises UserError like `addresses` and `locate`."""
    given = addresses(nodes, context)
    found, tried = _look(nodes, given, context)
    digests = {name: ref.digest for name, ref in {**given, **found}.items()}
    return Survey(given, found, outlook(nodes, digests, tried, earlier))


def run_node(node: Node, refs: Mapping[str, ArtifactRef], context: StageContext) -> ArtifactRef:
    """Run one stage with its inputs from `refs`. Raises what the stage raises."""
    return run_stage(stage(node.kind), node.name, node.config, inputs_of(node, refs, context), context)


def inputs_of(node: Node, refs: Mapping[str, ArtifactRef], context: StageContext) -> Inputs:
    """A node's inputs, opened. Raises what fetching them raises."""
    # Not verified again: `found_again` has done it, or the artifact was just sealed, or the download from a store was checked.
    opened = {
        role: [Artifact.open(context.fetch(refs[name].uri), verify=False, uri=refs[name].uri) for name in names]
        for role, names in node.inputs.items()
    }
    return stage(node.kind).inputs(opened)


def addresses(nodes: Sequence[Node], context: StageContext) -> Refs:
    """The artifacts of other runs from which a graph begins, verified. Raises UserError if one is missing or damaged, or those
    that a stage merges do not belong together."""
    named = dict.fromkeys(name for node in nodes for name in node.sources if is_address(name))
    given = {name: Artifact.open(context.fetch(name), uri=name) for name in named}
    check_merges(nodes, given, context)
    return {name: artifact.ref for name, artifact in given.items()}


def locate(nodes: Sequence[Node], known: Mapping[str, ArtifactRef], context: StageContext) -> Refs:
    """The nodes whose artifacts exist, by their manifests only: no content is read or verified. Raises UserError if a
    configuration names files that are missing."""
    return _look(nodes, known, context)[0]


def _look(nodes: Sequence[Node], known: Mapping[str, ArtifactRef], context: StageContext) -> tuple[Refs, dict[str, Identity]]:
    """The result of `locate`, and the identities of all nodes that could be looked up."""
    store, found, tried = context.store, Refs(), dict[str, Identity]()
    opened: dict[str, Artifact] = {}
    for name, ref in known.items():
        opened[name] = Artifact.open(context.fetch(ref.uri), verify=False, uri=ref.uri)
    for node in nodes:
        # Without its inputs' digests a node has no fingerprint: everything after a missing artifact is missing too.
        if not all(name in opened for name in node.sources):
            continue
        spec = stage(node.kind)
        inputs: Inputs = spec.inputs({role: [opened[name] for name in names] for role, names in node.inputs.items()})
        tried[node.name] = Identity.of(spec, node.name, node.config, inputs)
        uri = store.find(tried[node.name].artifact)
        if uri is not None:
            opened[node.name] = store.described(uri)
            found[node.name] = opened[node.name].ref
    return found, tried


def _said(nodes: Sequence[Node], found: Mapping[str, ArtifactRef]) -> str:
    """One line about what was found again."""
    rest = [node.name for node in nodes if node.name not in found]
    if not rest:
        return f"found again: all {len(nodes)} stages; only the report remains to be written"
    shown = ", ".join(rest[:4]) + (f" and {len(rest) - 4} more" if len(rest) > 4 else "")
    return f"found again: {len(found)} of {len(nodes)} stages; to be made: {shown}"
