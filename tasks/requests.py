"""What the pods of a stage ask for: the recipe's `compute`, divided among the stage's ranks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from lehr.config.recipe import Recipe
from lehr.infra.pod.pod_request import PodRequest
from lehr.pipeline.node import REPORT, Node
from lehr.pipeline.ranked import RankedConfig
from lehr.pipeline.registry import stage
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError

RANKS = "LEHR_TASK_RANKS"  # of a Flyte pod: the launcher of its task, which is declared anew there without a recipe
SECRET = "LEHR_TASK_SECRET"  # at registration, and from there in pods: the name of the Secret with the store's variables
GPU = "LEHR_GPU_RESOURCE"  # as it: the device plugin's name for a GPU, which Flyte is told by itself
_REMEDY = "it is set by Lehr in the pods of Flyte, such as nodes=4,ranks=8 (ranks on each node); unset it"
_DEFAULTS = {"cpu": PodRequest(cpu="1", memory="2Gi", checked=False)}


def default(resource_class: str) -> PodRequest:
    """What a pod of the class asks for if the recipe does not say. Pods that do not compute with the model get no preflight."""
    found = _DEFAULTS.get(resource_class, PodRequest())
    return replace(found, secret=os.environ.get(SECRET, ""), gpu_resource=os.environ.get(GPU, found.gpu_resource))


def request(recipe: Recipe, node: Node) -> PodRequest:
    """What each pod of the stage `node` asks for. Raises UserError if its ranks cannot be divided so."""
    resource_class = stage(node.kind).resources
    asked = replace(default(resource_class), **recipe.compute.of(node.name, node.kind, resource_class))
    processes = node.config.parallel.processes if isinstance(node.config, RankedConfig) else 1
    where = f"compute, for {node.name}"
    if processes % asked.nodes:
        raise UserError(
            f"{asked.nodes} nodes do not share {processes} {'process' if processes == 1 else 'processes'} equally",
            where=where,
            remedy="change nodes, or the stage's processes",
        )
    if asked.spares and asked.nodes == 1:
        raise UserError("spares are for stages on several nodes", where=where, remedy="leave spares out, or ask for more nodes")
    ranks = processes // asked.nodes
    if asked.gpus and resource_class == "ranked" and ranks != asked.gpus:
        raise UserError(
            f"{asked.gpus} GPUs on a node are not one for each of the {ranks} processes there",
            where=where,
            remedy=f"ask for gpus: {ranks}, or for other nodes or processes",
        )
    return replace(asked, ranks=ranks)


def report_request(recipe: Recipe) -> PodRequest:
    """What the pod asks for that publishes the run."""
    return replace(default("cpu"), **recipe.compute.of(REPORT, REPORT, "cpu"))


def requests(recipe: Recipe, nodes: Sequence[Node]) -> dict[str, PodRequest]:
    """What the pods of each stage and of the report ask for, by name. Raises UserError as `request` does."""
    return {**{node.name: request(recipe, node) for node in nodes}, REPORT: report_request(recipe)}


def counts(text: str) -> tuple[int, int]:
    """(nodes, ranks on each) from `nodes=4,ranks=8`, (1, 1) from "". Raises UserError for other text."""
    found = {"nodes": 1, "ranks": 1}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = part.partition("=")
        number = digits(amount)
        if name not in found or not number:
            raise UserError(f"{part[:40]!r} is not a known amount", where=RANKS, remedy=_REMEDY)
        found[name] = number
    return found["nodes"], found["ranks"]


def launcher_counts() -> tuple[int, int]:
    """The counts that this process was told."""
    return counts(os.environ.get(RANKS, ""))
