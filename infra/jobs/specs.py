"""The Jobs of a run: the driver's, and one for each stage, their pods as Flyte's tasks have them (infra/pod/pod_template.py).

Keys are in the main container alone, and there by the name of a Secret: nothing here holds one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lehr.infra.jobs.payer import FATAL, REPLACED, RETRIES, SYSTEM_CODES, TERMINATED
from lehr.infra.jobs.submission import ATTEMPT, DRIVER, VARIABLE, Submission, attempt_name, job_name, labels
from lehr.infra.pod.pod_request import PodRequest, checked_labels
from lehr.infra.pod.pod_template import CHECKED_AGAIN, COPIES, METRICS_ANNOTATIONS, PRIMARY, SHM, pod_spec
from lehr.infra.pod.probes.devices import EXPECTED

if TYPE_CHECKING:
    from kubernetes.client import V1PodSpec

Object = dict[str, Any]
KEPT_SECONDS = 7 * 86_400  # after its end, for its log; a stage's Job goes with the driver's
DRIVER_RESTARTS = 6
DRIVER_POD = PodRequest(cpu="1", memory="2Gi", checked=False)
DRIVER_CODES = (TERMINATED,)  # nobody counts its ends but Kubernetes: one that is killed for its memory must not start for ever
INPUTS = "LEHR_INPUTS"
# By what the pods of an attempt find each other (lehr.tasks.meeting): their own address, and what only they have in common.
MEETING = {"LEHR_POD_ADDRESS": "status.podIP", "LEHR_ATTEMPT": "metadata.labels['batch.kubernetes.io/controller-uid']"}


@dataclass(frozen=True)
class StagePod:
    """What one stage's pod is to be. `inputs` are references to artifacts, as plain values, by name."""

    name: str
    command: Sequence[str]
    request: PodRequest
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def stage_job(submission: Submission, stage: StagePod, owner: Object, attempt: int = 1) -> Object:
    """The Job of a stage; it goes when `owner`, the driver's Job, goes. On several nodes, of one attempt at it."""
    variables = {VARIABLE: submission.text(), INPUTS: json.dumps({name: dict(ref) for name, ref in stage.inputs.items()})}
    pod = _pod(submission, stage, variables, account=submission.account)
    meta, nodes = owner["metadata"], stage.request.nodes
    more, name = checked_labels(stage.request.checked), job_name(submission.name, stage.name, meta["uid"])
    if nodes > 1:
        name = attempt_name(submission.name, stage.name, meta["uid"], attempt, nodes + stage.request.spares)
    job = _job(submission, stage.name, pod, RETRIES, more, name)
    if nodes > 1:
        _indexed(job, stage.request, attempt)
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    job["metadata"]["ownerReferences"] = [reference]
    return job


def _indexed(job: Object, asked: PodRequest, attempt: int) -> None:
    """Make `job` one of pods that work together. A pod that was lost or taken away, or whose node is at fault, is replaced,
    and the others go on in place (lehr.tasks.pod_ranks). With the first that ends for any other reason the Job fails, and
    Kubernetes ends the others. Who pays for that, and whether there is a next one, the driver says.

    The limits are by index because the pause before a replacement, from 10 s to ten minutes, then grows with the failures of
    that index, and not with those of the whole Job."""
    spec = job["spec"]
    pods = asked.nodes + asked.spares
    spec |= {"completions": pods, "parallelism": pods, "completionMode": "Indexed"}
    spec |= {"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}
    del spec["backoffLimit"]
    if asked.spares:  # on a full cluster the pod in a lost one's place may find no node for hours after the others are done
        spec["successPolicy"] = {"rules": [{"succeededCount": asked.nodes}]}
    spec["podFailurePolicy"]["rules"] = _rules(REPLACED)
    for meta in (job["metadata"], spec["template"]["metadata"]):
        meta["labels"] = {**meta["labels"], ATTEMPT: str(attempt)}
    primary = next(c for c in spec["template"]["spec"]["containers"] if c["name"] == PRIMARY)
    found = {name: {"fieldRef": {"apiVersion": "v1", "fieldPath": path}} for name, path in MEETING.items()}
    primary["env"] += [{"name": name, "valueFrom": source} for name, source in found.items()]
    own = {COPIES: f"{SHM}/lehr-copies"} | ({CHECKED_AGAIN: "1", EXPECTED: str(asked.gpus)} if asked.checked else {})
    primary["env"] += [{"name": name, "value": value} for name, value in own.items()]


def driver_job(submission: Submission, command: Sequence[str]) -> Object:
    """The Job of the driver: the only pod of a run with a token."""
    stage = StagePod(DRIVER, command, DRIVER_POD)
    pod = _pod(submission, stage, {VARIABLE: submission.text()}, account=submission.driver_account)
    pod["automountServiceAccountToken"] = True
    del pod["containers"][0]["ports"]  # it serves no metrics, and a monitor would call it down
    job = _job(submission, DRIVER, pod, DRIVER_RESTARTS, {}, job_name(submission.name, DRIVER))
    job["spec"]["ttlSecondsAfterFinished"] = KEPT_SECONDS
    return job


def _job(submission: Submission, stage: str, pod: Object, retries: int, more: Mapping[str, str], name: str) -> Object:
    said, codes = labels(submission, stage), DRIVER_CODES if stage == DRIVER else SYSTEM_CODES
    meta: Object = {"labels": {**said, **more}}
    if stage != DRIVER:
        meta["annotations"] = dict(METRICS_ANNOTATIONS)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": submission.namespace, "labels": said},
        "spec": {
            "backoffLimit": retries,
            "podReplacementPolicy": "Failed",  # one pod at a time: the next starts when the last has let go of its devices
            "podFailurePolicy": {"rules": _rules(codes)},
            "template": {"metadata": meta, "spec": pod},
        },
    }


def _rules(codes: Sequence[int]) -> list[Object]:
    """As far as Kubernetes can say who pays (lehr.infra.jobs.payer has the whole table): a mistake of the user's ends the Job,
    and what costs the system is not counted against `backoffLimit`."""
    return [
        {"action": "FailJob", "onExitCodes": {"containerName": PRIMARY, "operator": "In", "values": [FATAL]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": list(codes)}},
    ]


def _pod(submission: Submission, stage: StagePod, variables: Mapping[str, str], account: str) -> Object:
    """The specification of a pod as JSON data."""
    from kubernetes.client import ApiClient, V1EnvVar, V1ResourceRequirements

    asked = replace(stage.request, secret=submission.secret, gpu_resource=submission.gpu_resource)
    image = asked.image or submission.image
    spec: V1PodSpec = pod_spec(asked, labels(submission, stage.name), image=image)
    primary = spec.containers[0]
    amounts = {"cpu": asked.cpu, "memory": asked.memory} | ({asked.gpu_resource: str(asked.gpus)} if asked.gpus else {})
    amounts |= {"ephemeral-storage": asked.disk} if asked.disk else {}
    primary.image, primary.args = image, list(stage.command)
    primary.resources = V1ResourceRequirements(requests=dict(amounts), limits=dict(amounts))
    primary.env = [*primary.env, *(V1EnvVar(name=name, value=value) for name, value in variables.items())]
    spec.containers = [primary]  # now the init containers follow, and the supervisor stands before the command
    primary.command, primary.args = primary.args, None  # an image's entry point has no say
    if account:
        spec.service_account_name = account
    made: Object = ApiClient().sanitize_for_serialization(spec)
    return made
