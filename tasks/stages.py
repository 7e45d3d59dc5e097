"""Three Flyte tasks, one for each resource class, and the task that publishes a run.

Their names are part of what is registered: lehr.tasks.stages.cpu, accelerator, ranked, report.
"""

from __future__ import annotations

import os
from typing import Any

from flytekit import Deck, Resources, task
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.artifacts.artifact import ArtifactRef
from lehr.config.compute import Resources as Asked
from lehr.tasks.opening import publish, run_stage_of
from lehr.tasks.owned import owned
from lehr.tasks.pods import pod_template
from lehr.tasks.refs import RunRef
from lehr.tasks.registration import RANKS, RESOURCES, counts, registered
from lehr.tasks.run_location import RunLocation

# Set by `pyflyte register --image NAME`. Written explicitly, because a task without an image gets flytekit's own.
IMAGE = "{{.image.default.fqn}}:{{.image.default.version}}"
_PATIENCE = 900  # seconds to wait for all nodes: the pods of one job do not start together


def amounts(asked: Asked) -> dict[str, Resources]:
    """Requests and limits are equal: Kubernetes requires limits for GPUs, and Flyte copies requests to limits anyway."""
    found = Resources(cpu=asked.cpu, mem=asked.memory, **({"gpu": str(asked.gpus)} if asked.gpus else {}))
    return {"requests": found, "limits": found}


def settings(resource_class: str) -> dict[str, Any]:
    """What all tasks of a class have in common. Flyte retries only errors that are marked recoverable, whatever `retries` is;
    `owned` marks them. A pod declares its task anew and must use the same settings, so it gets the environment variables."""
    said = {name: os.environ[name] for name in (RESOURCES, RANKS) if os.environ.get(name)}
    common = {"retries": 3, "container_image": IMAGE, "environment": said}
    return {**amounts(registered(resource_class)), **common, "pod_template": pod_template(checked=resource_class != "cpu")}


def elastic(text: str) -> dict[str, Any]:
    """Arguments of a task whose ranks Flyte is to start; none for a single rank, as Lehr itself starts the ranks of one
    machine. Raises UserError for invalid `text`.
    """
    nodes, ranks = counts(text)
    if nodes * ranks == 1:
        return {}
    from flytekitplugins.kfpytorch import CleanPodPolicy, Elastic, RunPolicy  # late: loads torch and a Kubernetes client

    config = Elastic(
        nnodes=nodes,
        nproc_per_node=ranks,
        max_restarts=0,  # a restart inside the agent meets the previous attempt's store (torch 2.13); Flyte retries instead
        rdzv_configs={"timeout": _PATIENCE, "join_timeout": _PATIENCE, "read_timeout": _PATIENCE},
        increase_shared_mem=False,  # the pod template mounts /dev/shm already
        run_policy=RunPolicy(clean_pod_policy=CleanPodPolicy.RUNNING),  # keep ended pods: the fleet reads their exit codes
    )
    return {"task_config": config}


@task(**settings("cpu"))
@owned(FlyteRecoverableException)
def cpu(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that does not compute with the model."""
    return run_stage_of(run, node, inputs)


@task(**settings("accelerator"))
@owned(FlyteRecoverableException)
def accelerator(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that computes with the model in one process."""
    return run_stage_of(run, node, inputs)


@task(**settings("ranked"), **elastic(os.environ.get(RANKS, "")))
@owned(FlyteRecoverableException)
def ranked(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that runs on all of the recipe's ranks."""
    return run_stage_of(run, node, inputs)


# Without flytekit's default deck fields: one of them runs `pip freeze`, which takes seconds at the end of every run.
@task(enable_deck=True, deck_fields=(), **settings("cpu"))
@owned(FlyteRecoverableException)
def report(run: RunRef, artifacts: dict[str, ArtifactRef]) -> str:
    """Publish the run; the report is shown as this task's Deck too. Returns the report's path or address."""
    from lehr.report import render_fragment

    Deck("Lehr", render_fragment(publish(run, artifacts)))
    return RunLocation(run.root).shown("report.html")


TASKS = {"cpu": cpu, "accelerator": accelerator, "ranked": ranked}
