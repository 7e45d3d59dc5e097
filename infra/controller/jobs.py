"""The Jobs that test nodes: the probes as their only container, on all GPUs of one given node."""

from __future__ import annotations

import hashlib

from lehr.infra.controller.objects import ATTEMPT, MACHINE, NODE, ROLE, SUITE, NodeObject, Object
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.actions import StartPair, StartRevalidation
from lehr.infra.fleet.policy import NAMES

KEPT_SECONDS = 24 * 3600  # of a finished Job that was not deleted
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
USER = 1000  # any uid but 0: the probes need no privileges
PROFILE = {"type": "RuntimeDefault"}
MOUNTS = {"lehr": "/lehr", "tmp": "/tmp", "shm": "/dev/shm"}


def job_name(node: NodeObject, attempt: int) -> str:
    """A stable name of at most 63 characters: the start of the node's name for people, a hash for uniqueness.

    The hash covers the uid: a replacement machine may get the same name, but must not get its predecessor's results.
    """
    digest = hashlib.sha256(f"{node.key}/{node.uid}".encode()).hexdigest()[:10]
    short = "".join(c if c.isalnum() else "-" for c in node.key.lower())[:30].strip("-")
    return f"test-{short}-{digest}-{attempt}"


def job(node: NodeObject, action: StartRevalidation, settings: Settings) -> Object:
    """The Job's manifest. Job and pod carry node, attempt and suite as annotations."""
    notes = {NODE: node.key, MACHINE: node.uid, ATTEMPT: str(action.attempt), SUITE: action.suite}
    # A suspect that a person cordons meanwhile is left to that person: its test must not be scheduled there.
    tolerated = [] if action.suite == "suspect" else [UNSCHEDULABLE]
    container = _container(node, ["python", "-m", "lehr.infra.pod.probes"], {"LEHR_SUITE": action.suite}, settings)
    seconds = settings.policy.revalidation_timeout_seconds
    return _manifest(job_name(node, action.attempt), notes, _pod(node, container, tolerated, settings), seconds, settings)


def pair_job(owner: NodeObject, place: NodeObject, action: StartPair, settings: Settings) -> Object:
    """One side of a pair test, on `place`. Its annotations name `owner`, the node in whose record the test is kept."""
    notes = {NODE: owner.key, MACHINE: owner.uid, ATTEMPT: str(action.attempt), SUITE: "pair", ROLE: action.role}
    environment = {"LEHR_PAIR_ROLE": action.role, "LEHR_PAIR_ADDRESS": action.address}
    container = _container(place, ["python", "-m", "lehr.infra.pod.probes.pair"], environment, settings)
    if settings.pair_resources:
        limits = {**container.get("resources", {}).get("limits", {}), **settings.pair_resources}
        container["resources"] = {"limits": limits}
    name = f"{job_name(owner, action.attempt)}-{action.role[0]}"
    return _manifest(name, notes, _pod(place, container, [], settings), settings.policy.pair_timeout_seconds, settings)


def _manifest(name: str, notes: dict[str, str], pod: Object, seconds: float, settings: Settings) -> Object:
    labels = {SUITE: notes[SUITE]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": settings.system_namespace, "labels": labels, "annotations": notes},
        "spec": {
            "backoffLimit": 0,  # no retries by Kubernetes: `decide` judges each failure
            "activeDeadlineSeconds": int(seconds),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": pod},
        },
    }


def _pod(node: NodeObject, container: Object, tolerated: list[str], settings: Settings) -> Object:
    # matchFields with node affinity instead of spec.nodeName: the pod then passes the scheduler, which checks free GPUs.
    on_node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.key]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_node]}}
    tolerated = [settings.gpu_resource, NAMES.suspect_taint, NAMES.quarantine_taint, *tolerated]
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,  # probes need no access to the API
        "enableServiceLinks": False,
        "affinity": {"nodeAffinity": required},
        "tolerations": [{"key": key, "operator": "Exists"} for key in tolerated],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER, "seccompProfile": PROFILE},
        "containers": [container],
        "volumes": [
            {"name": "lehr", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
    }
    if settings.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return pod


def _container(node: NodeObject, command: list[str], extra: dict[str, str], settings: Settings) -> Object:
    environment = {
        "LEHR_VERDICT": "/lehr/verdict.json",
        "LEHR_EXPECTED_GPUS": str(node.gpus),
        "TMPDIR": "/tmp",
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        **extra,
    }
    container: Object = {
        "name": NAMES.preflight_container,
        "image": settings.image,
        "command": command,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in MOUNTS.items()],
    }
    if node.gpus:
        container["resources"] = {"limits": {settings.gpu_resource: str(node.gpus)}}
    return container
