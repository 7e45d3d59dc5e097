"""The Job that tests a node: the preflight probes as the only container, on all its GPUs, on that node and no other."""

from __future__ import annotations

import hashlib

from infra.actions import StartRevalidation
from infra.controller.facts import ATTEMPT, NODE, SUITE, NodeFact, Object
from infra.controller.settings import Settings
from infra.policy import NAMES

KEPT_SECONDS = 24 * 3600  # a finished Job that nobody deleted

USER = 1000
PROFILE = {"type": "RuntimeDefault"}
MOUNTS = {"lehr": "/lehr", "tmp": "/tmp", "shm": "/dev/shm"}


def job_name(node: str, attempt: int) -> str:
    """Stable, at most 63 characters: the start of the node's name for people, a hash for uniqueness."""
    digest = hashlib.sha256(node.encode()).hexdigest()[:10]
    short = "".join(c if c.isalnum() else "-" for c in node.lower())[:30].strip("-")
    return f"test-{short}-{digest}-{attempt}"


def job(node: NodeFact, action: StartRevalidation, settings: Settings) -> Object:
    """The Job's manifest. It carries node, attempt and suite as annotations, its pod too."""
    notes = {NODE: node.key, ATTEMPT: str(action.attempt), SUITE: action.suite}
    labels = {SUITE: action.suite}
    meta = {"name": job_name(node.key, action.attempt), "namespace": settings.system_namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**meta, "labels": labels, "annotations": notes},
        "spec": {
            "backoffLimit": 0,  # what a failure means is decided by `decide`
            "activeDeadlineSeconds": int(settings.policy.revalidation_timeout_seconds),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": _pod(node, action, settings)},
        },
    }


def _pod(node: NodeFact, action: StartRevalidation, settings: Settings) -> Object:
    on_node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.key]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_node]}}
    tolerated = [settings.gpu_resource, NAMES.suspect_taint, NAMES.quarantine_taint]
    if action.suite != "suspect":  # a suspect that a person cordons meanwhile is theirs
        tolerated.append("node.kubernetes.io/unschedulable")
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "affinity": {"nodeAffinity": required},
        "tolerations": [{"key": key, "operator": "Exists"} for key in tolerated],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER, "seccompProfile": PROFILE},
        "containers": [_container(node, action, settings)],
        "volumes": [
            {"name": "lehr", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
    }
    if settings.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return pod


def _container(node: NodeFact, action: StartRevalidation, settings: Settings) -> Object:
    container: Object = {
        "name": NAMES.preflight_container,
        "image": settings.image,
        "command": ["python", "-m", "infra.probes"],
        "env": [
            {"name": "LEHR_VERDICT", "value": "/lehr/verdict.json"},
            {"name": "LEHR_EXPECTED_GPUS", "value": str(node.gpus)},
            {"name": "LEHR_SUITE", "value": action.suite},
            {"name": "TMPDIR", "value": "/tmp"},
            {"name": "HOME", "value": "/tmp"},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
        ],
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
