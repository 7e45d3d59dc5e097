"""What one stage's pods ask for, and how a run's objects are named and labelled: plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES

GRACE_SECONDS = 120  # from SIGTERM to SIGKILL: a checkpoint is saved in them
LONGEST = 63  # characters of a label


@dataclass(frozen=True)
class PodRequest:
    """Amounts are of one node, in Kubernetes' units; requests are limits too. "" and 0: none, or the cluster's default."""

    cpu: str = "2"
    memory: str = "4Gi"
    nodes: int = 1  # pods of one stage, each on a node of its own
    spares: int = 0  # pods beyond them that wait for one to be lost
    ranks: int = 1  # processes on each node
    gpus: int = 0
    gpu_resource: str = GPU_RESOURCE  # the device plugin's name for one
    accelerator: str = ""  # GPU model, as the GPU operator labels nodes (nvidia.com/gpu.product)
    shared_memory: str = ""  # most of /dev/shm; it counts against `memory`
    disk: str = ""  # ephemeral storage: logs, and /tmp with the checkpoints on their way to the store
    pool: str = ""  # of nodes: their label lehr.dev/pool
    priority: str = ""  # a PriorityClass
    interruptible: bool = False  # may run on nodes that the provider takes back
    image: str = ""
    rdma: Mapping[str, int] = field(default_factory=dict)  # extended resources of the network's device plug-in
    grace_seconds: int = GRACE_SECONDS
    checked: bool = True  # with preflight and gate
    secret: str = ""  # a Secret whose entries are variables of the main container, and of no other


def slug(text: str, longest: int = LONGEST) -> str:
    """`text` as a label or a part of an object's name: [a-z0-9-], a letter or digit at both ends."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())[:longest].strip("-") or "x"


def run_name(recipe: str, key: str) -> str:
    """Names a run on the cluster: the same recipe in the same place is the same run."""
    return f"{slug(recipe, 24)}-{key[:8]}"


def run_labels(run: str, recipe: str) -> dict[str, str]:
    """Labels of all of a run's pods. `run` is from `run_name`."""
    return {NAMES.run_label: run, NAMES.recipe_label: slug(recipe)}


def stage_labels(run: str, stage: str, recipe: str) -> dict[str, str]:
    """Labels of a stage's pods."""
    return {**run_labels(run, recipe), NAMES.stage_label: slug(stage)}


def execution_selector(execution: str, stage: str) -> str:
    """Selects the pods of a stage of an execution on Flyte, which labels them so itself."""
    return f"execution-id={execution},{NAMES.stage_label}={slug(stage)}"


def checked_labels(checked: bool) -> dict[str, str]:
    """The label by which the controller recognises pods with preflight and gate."""
    return {NAMES.preflight_label: "true"} if checked else {}
