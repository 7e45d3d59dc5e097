"""One stage of one recipe: a node of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lehr.pipeline.spec import StageConfig

REPORT = "report"  # what publishes a run at its end: no stage, but on a cluster a pod as stages are


@dataclass(frozen=True)
class Node:
    """`name` is unique in the graph, `kind` names its StageSpec. `inputs` by role are names of earlier nodes, or addresses of
    artifacts from other runs, which contain a slash."""

    name: str
    kind: str
    config: StageConfig
    inputs: Mapping[str, tuple[str, ...]]

    @property
    def sources(self) -> tuple[str, ...]:
        """All inputs, each once, in the order of the roles."""
        return tuple(dict.fromkeys(name for names in self.inputs.values() for name in names))


def visits(nodes: Sequence[Node]) -> int:
    """The number of paths through the graph, over all nodes. Flyte's engine walks every path in every round (measured: half a
    millisecond for each), so a graph must stay below some thousands."""
    paths: dict[str, int] = {}
    for node in nodes:
        paths[node.name] = sum(paths[name] for name in node.sources if name in paths) or 1
    return sum(paths.values())


def needed(nodes: Sequence[Node], ends: Iterable[str]) -> list[Node]:
    """Those of `nodes` that are named in `ends` or on which these depend, in order."""
    wanted = set(ends)
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.sources)
    return [node for node in nodes if node.name in wanted]


def pieces(nodes: Sequence[Node], most_paths: int, most_nodes: int) -> list[list[Node]]:
    """`nodes` divided into runs of neighbours with at most so many paths and nodes each, as Flyte's engine can walk and load.
    Results of an earlier run of nodes are constants in a later one."""
    out: list[list[Node]] = [[]]
    for node in nodes:
        if len(out[-1]) == most_nodes or (out[-1] and visits([*out[-1], node]) > most_paths):
            out.append([])
        out[-1].append(node)
    return out
