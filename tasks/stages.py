"""Three Flyte tasks, one for each resource class, and the task that publishes a run.

Their names are part of what is registered: lehr.tasks.stages.cpu, accelerator, ranked, report. A run's graph makes each again
for every stage (`task_of`), with the pods that its recipe asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flytekit import Deck, FlyteContextManager, PythonFunctionTask, Resources, task
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.artifacts.artifact import ArtifactRef
from lehr.infra.pod.pod_request import PodRequest
from lehr.runtime.errors import UserError
from lehr.tasks.opening import publish, run_stage_of
from lehr.tasks.owned import owned
from lehr.tasks.pods import pod_template
from lehr.tasks.refs import RunRef
from lehr.tasks.requests import GPU, RANKS, SECRET, default, launcher_counts
from lehr.tasks.run_location import RunLocation

# Set by `pyflyte register --image NAME`. Written explicitly, because a task without an image gets flytekit's own.
IMAGE = "{{.image.default.fqn}}:{{.image.default.version}}"
RETRIES, JOB_RETRIES = 3, 16
LINKS = "lehr-grafana,lehr-mlflow"
_PATIENCE = 900  # seconds to wait for all nodes: the pods of one job do not start together


def amounts(asked: PodRequest) -> dict[str, Resources]:
    """Requests and limits are equal: Kubernetes requires limits for GPUs, and Flyte copies requests to limits anyway."""
    more = {"gpu": str(asked.gpus)} if asked.gpus else {}
    more |= {"ephemeral_storage": asked.disk} if asked.disk else {}
    found = Resources(cpu=asked.cpu, mem=asked.memory, **more)
    return {"requests": found, "limits": found}


def settings(asked: PodRequest, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of the task whose pods ask for `asked`. Flyte retries only errors that are marked recoverable, whatever
    `retries` is; `owned` marks them. Of a stage on several nodes the whole job fails with each of its pods, which costs a retry
    of the user's whatever the reason was: so it has as many as the system allows. Raises UserError for spares, of which Flyte
    knows nothing."""
    if asked.spares:
        raise UserError("Flyte has no spares", where="compute: spares", remedy="leave them out, or use --backend kubernetes")
    return {
        **amounts(asked),
        **elastic(asked.nodes, asked.ranks),
        "retries": RETRIES if asked.nodes == 1 else JOB_RETRIES,
        "interruptible": asked.interruptible or None,
        "container_image": asked.image or IMAGE,
        "environment": _environment(asked),
        "pod_template": pod_template(asked, labels),
    }


def _environment(asked: PodRequest) -> dict[str, str]:
    """A pod declares its task anew, without a recipe: it needs the same launcher, and a graph the Secret of its pods."""
    ranks = {RANKS: f"nodes={asked.nodes},ranks={asked.ranks}"} if asked.nodes > 1 else {}
    gpu = {GPU: asked.gpu_resource} if asked.gpu_resource != PodRequest.gpu_resource else {}
    return {**ranks, **gpu, **({SECRET: asked.secret} if asked.secret else {})}


def elastic(nodes: int, ranks: int) -> dict[str, Any]:
    """Arguments of a task whose ranks Flyte is to start; none for one node, where Lehr itself starts them."""
    if nodes == 1:
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


@task(**settings(default("cpu")))
@owned(FlyteRecoverableException)
def cpu(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that does not compute with the model."""
    return run_stage_of(run, node, inputs)


@task(**settings(default("accelerator")))
@owned(FlyteRecoverableException)
def accelerator(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that computes with the model in one process."""
    return run_stage_of(run, node, inputs)


@task(**{**settings(default("ranked")), **elastic(*launcher_counts())})
@owned(FlyteRecoverableException)
def ranked(run: RunRef, node: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """A stage that runs on all of the recipe's ranks."""
    return run_stage_of(run, node, inputs)


# Without flytekit's default deck fields: one of them runs `pip freeze`, which takes seconds at the end of every run.
@task(enable_deck=True, deck_fields=(), **settings(default("cpu")))
@owned(FlyteRecoverableException)
def report(run: RunRef, artifacts: dict[str, ArtifactRef]) -> str:
    """Publish the run; the report is shown as this task's Deck too. Returns the report's path or address."""
    from lehr.report import render_fragment

    Deck("Lehr", render_fragment(publish(run, artifacts)))
    return RunLocation(run.root).shown("report.html")


TASKS = {"cpu": cpu, "accelerator": accelerator, "ranked": ranked}


def task_of(made: PythonFunctionTask[Any], name: str, asked: PodRequest, labels: Mapping[str, str]) -> PythonFunctionTask[Any]:
    """The task `made` again, for pods that ask for `asked`, under a name of its own in the engine. Pods find the function that
    they run by its module and its own name, whatever the task is called."""
    if FlyteContextManager.current_context().execution_state.is_local_execution():
        return made  # `pyflyte run` on one machine
    decks = {"enable_deck": True, "deck_fields": ()} if made is report else {}
    again: PythonFunctionTask[Any] = task(**settings(asked, labels), **decks)(made.task_function)
    again._name = f"{again.name}.{name}"
    _link(again, labels)
    return again


def _link(made: PythonFunctionTask[Any], labels: Mapping[str, str]) -> None:
    """Links on the task's page in Flyte's console, where Flyte was told what they lead to (`dynamic-log-links`; the chart's
    README has them): their addresses may name run, stage and recipe."""
    own = made.get_config
    values = {f"lehr_{name.rpartition('/')[2]}": value for name, value in labels.items()}
    made.get_config = lambda settings: {**(own(settings) or {}), "link_type": LINKS, **values}
