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

# Named by `pyflyte register --image NAME`, and written out: a task without it gets flytekit's own image.
IMAGE = "{{.image.default.fqn}}:{{.image.default.version}}"
_PATIENCE = 900  # seconds: pods of one job do not start together


def amounts(asked: Asked) -> dict[str, Resources]:
    """Requests and limits alike: Kubernetes wants a limit for GPUs, and Flyte makes limits of requests anyway."""
    found = Resources(cpu=asked.cpu, mem=asked.memory, **({"gpu": str(asked.gpus)} if asked.gpus else {}))
    return {"requests": found, "limits": found}


def settings(resource_class: str) -> dict[str, Any]:
    """What the tasks of a class have in common. Flyte never retries an error that is not marked recoverable, whatever `retries`
    says; `owned` marks them. A task is declared anew in its pod, which must know what it was registered for."""
    said = {name: os.environ[name] for name in (RESOURCES, RANKS) if os.environ.get(name)}
    common = {"retries": 3, "container_image": IMAGE, "environment": said}
    return {**amounts(registered(resource_class)), **common, "pod_template": pod_template(checked=resource_class != "cpu")}


def elastic(text: str) -> dict[str, Any]:
    """What a task is given so that Flyte starts its ranks; nothing for one rank: Lehr itself starts those of one machine.

    Raises UserError for a bad `text`.
    """
    nodes, ranks = counts(text)
    if nodes * ranks == 1:
        return {}
    from flytekitplugins.kfpytorch import CleanPodPolicy, Elastic, RunPolicy  # loads torch and the Kubernetes client

    config = Elastic(
        nnodes=nodes,
        nproc_per_node=ranks,
        max_restarts=0,  # a restart inside the agent meets the store of the attempt before (torch 2.13); Flyte retries
        rdzv_configs={"timeout": _PATIENCE, "join_timeout": _PATIENCE, "read_timeout": _PATIENCE},
        increase_shared_mem=False,  # the pod template has /dev/shm already
        run_policy=RunPolicy(clean_pod_policy=CleanPodPolicy.RUNNING),  # ended pods stay: the fleet reads their exit codes
    )
    return {"task_config": config}


@task(**settings("cpu"))
@owned(FlyteRecoverableException)
def cpu(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that computes nothing with the model."""
    return run_stage_of(run, node, inputs)


@task(**settings("accelerator"))
@owned(FlyteRecoverableException)
def accelerator(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that computes with the model in one process."""
    return run_stage_of(run, node, inputs)


@task(**settings("ranked"), **elastic(os.environ.get(RANKS, "")))
@owned(FlyteRecoverableException)
def ranked(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage on all of the recipe's ranks."""
    return run_stage_of(run, node, inputs)


# Without flytekit's own fields: one of them is `pip freeze`, seconds at the end of every run.
@task(enable_deck=True, deck_fields=(), **settings("cpu"))
@owned(FlyteRecoverableException)
def report(run: RunRef, artifacts: dict[str, ArtifactRef]) -> str:
    """Publish the run: its report is this task's Deck too. Returns where the report is."""
    from lehr.report import render_fragment

    Deck("Lehr", render_fragment(publish(run, artifacts)))
    return RunLocation(run.root).shown("report.html")


TASKS = {"cpu": cpu, "accelerator": accelerator, "ranked": ranked}
