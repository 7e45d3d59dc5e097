"""What a model of a graph was trained on: the nodes whose records its scores read (lehr.evals.flags)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lehr.evals.scores import TRAINED_ON
from lehr.pipeline.node import Node
from lehr.pipeline.registry import stage

_LEARNS = ("parent", "parents", "policy", "rows", "pairs", "prompts")  # roles through which a model learns


def trained_on(
    label: str, steps: Mapping[str, Sequence[Node]], documents: bool, base: bool
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The nodes by the roles of an evaluation, for the model and its ancestors among post-training's `steps`, with the
    `documents` of pretraining if there are such, and what was compared with nothing: the training data of models that another
    run made (the recipe's `base` is one), and prompts that are generated anew for each roll-out."""
    nodes, waiting, seen = {node.name: node for made in steps.values() for node in made}, [label], set[str]()
    others = ["what base was trained on"] if base else []
    while waiting:
        name = waiting.pop()
        if "/" in name and not base:
            others.append(f"what {name} was trained on")
        elif name in nodes and name not in seen:
            seen.add(name)
            waiting += [each for role in _LEARNS for each in nodes[name].inputs.get(role, ())]
            if stage(nodes[name].kind).output == "checkpoint" and getattr(nodes[name].config, "families", None):
                others.append(f"the generated prompts of {name}")
    own = [name for name in nodes if name in seen]  # in the graph's order
    found = {role: tuple(name for name in own if stage(nodes[name].kind).output == kind) for role, kind in TRAINED_ON.items()}
    found["trained_documents"] = ("documents",) if documents and label != "base" else ()
    return {role: names for role, names in found.items() if names}, others
