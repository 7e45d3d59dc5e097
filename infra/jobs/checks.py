"""What a cluster must have before a run is submitted: each refusal is one line, and nothing has been started by then."""

from __future__ import annotations

from collections.abc import Mapping

from lehr.infra.fleet.policy import NAMES
from lehr.infra.jobs.submission import DRIVER_ACCOUNT, Submission
from lehr.infra.kube.access import allowed
from lehr.infra.kube.api import ABSENT, FORBIDDEN, NODES, Api, ApiError
from lehr.infra.pod.pod_request import PodRequest
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError


def check(api: Api, submission: Submission, asked: Mapping[str, PodRequest]) -> list[str]:
    """Raises UserError for what cannot work; returns what could not be looked at, in words. `asked` is by stage."""
    check_image(submission.image)
    notes = [check_namespace(api, submission.namespace), _rights(api, submission.namespace)]
    accounts = filter(None, (submission.driver_account, submission.account))
    notes.append(next(filter(None, (check_account(api, submission.namespace, name) for name in accounts)), ""))
    notes.append(check_nodes(api, asked, submission.gpu_resource))
    return [note for note in notes if note]


def check_image(name: str) -> None:
    """Raises UserError if none is named."""
    if not name:
        remedy = "build one with `make image`, push it, and give --image REGISTRY/lehr:VERSION"
        raise UserError("no image is named", where="--image", remedy=remedy)


def check_operator(api: Api, stage: str) -> str:
    """Whether Flyte can run `stage` on several nodes: it asks the training operator for a PyTorchJob."""
    if not stage:
        return ""
    try:
        known = api.types("kubeflow.org/v1")
    except ApiError as error:
        if error.status == FORBIDDEN:
            return f"not looked at: whether there are PyTorchJobs for {stage} ({error.message})"
        raise
    if "pytorchjobs" not in known:
        remedy = "ask for one node, or have Kubeflow's training operator v1 installed"
        raise UserError("there are no PyTorchJobs on this cluster", where=f"compute, for {stage}", remedy=remedy)
    return ""


def check_namespace(api: Api, name: str, where: str = "--namespace", mend: str = "name another, or make it") -> str:
    """Raises UserError if there is no such namespace, or it is not one for training; returns why it was not looked at, "" if it
    was. `where` is what named it, `mend` what to do where it is not there."""
    label = f"kubectl label namespace {name} {NAMES.managed_label}=true"
    try:
        labels = api.get(f"/api/v1/namespaces/{name}")["metadata"].get("labels") or {}
    except ApiError as error:
        if error.status == FORBIDDEN:
            return f"not looked at: whether the namespace {name} is there and labelled ({error.message})"
        if error.status == ABSENT:
            raise UserError(f"there is no namespace {name}", where=where, remedy=mend) from error
        raise
    if labels.get(NAMES.managed_label) != "true":
        what = f"the namespace {name} is not one for training: the fleet controller does not take pods off bad nodes there"
        raise UserError(what, where=where, remedy=f"an operator runs: {label}")
    return ""


def grant(namespace: str) -> str:
    """What gives a person the rights to submit there."""
    return f"ask an operator for: kubectl create rolebinding NAME -n {namespace} --clusterrole=lehr-submitter --user=YOU"


def _rights(api: Api, namespace: str) -> str:
    if not allowed(api, {"verb": "create", "group": "batch", "resource": "jobs", "namespace": namespace}):
        raise UserError(f"you may not create Jobs in {namespace}", where="--namespace", remedy=grant(namespace))
    return ""


def check_account(api: Api, namespace: str, name: str) -> str:
    """Raises UserError unless there is such a service account; returns why it was not looked at, "" if it was."""
    try:
        api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
    except ApiError as error:
        if error.status == FORBIDDEN:
            return f"not looked at: whether the accounts of pods are there ({error.message})"
        if error.status == ABSENT:
            made = "install the chart with training.driver.create=true" if name == DRIVER_ACCOUNT else "name another"
            raise UserError(f"there is no service account {name} in {namespace}", where="--namespace", remedy=made) from error
        raise
    return ""


def check_nodes(api: Api, asked: Mapping[str, PodRequest], resource: str) -> str:
    """Whether some node has as many GPUs as each stage asks for; that they are free is the scheduler's to see to. That there
    are too few such nodes for a stage on several is only said: some clusters add nodes when a pod waits."""
    if not any(one.gpus or one.nodes > 1 for one in asked.values()):
        return ""
    try:
        amounts = [node.get("status", {}).get("allocatable", {}).get(resource, "0") for node in api.items(NODES)]
    except ApiError as error:
        if error.status == FORBIDDEN:
            return f"not looked at: whether nodes have the GPUs that stages ask for ({error.message})"
        raise
    there, few = [digits(str(amount)) or 0 for amount in amounts], ""
    for stage, one in asked.items():
        if one.gpus > (most := max(there, default=0)):
            remedy = "ask for fewer with `compute` in the recipe, have such nodes added, or give another --gpu-resource"
            what = f"{stage} asks for {one.gpus} GPUs, and no node has more than {most} of {resource}"
            raise UserError(what, where="compute", remedy=remedy)
        wanted = one.nodes + one.spares
        if wanted > (found := sum(gpus >= one.gpus for gpus in there)) and not few:
            with_gpus = f" with {one.gpus} GPUs" if one.gpus else ""
            few = f"{stage} asks for {wanted} nodes{with_gpus}, and there are {found}: it will wait for more"
    return few
