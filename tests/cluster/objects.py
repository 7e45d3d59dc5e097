"""Objects of the tests: nodes with GPUs, gated pods, and whatever the chart holds, created through the real API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import NODES, Api, ApiError, Object
from tests.cluster.kubelet import EXECUTION, pods_path

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "PodTemplate": "/api/v1/namespaces/{}/podtemplates",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


def create(api: Api, item: Object) -> Object:
    """Create it; one that is there already is left as it is."""
    try:
        return api.create(PATHS[item["kind"]].format(item["metadata"].get("namespace", "")), item)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        return item


def namespace(name: str, managed: bool) -> Object:
    labels = {NAMES.managed_label: "true"} if managed else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def long_ago(seconds: float = 7200) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_node(api: Api, name: str, pool: str, *, managed: bool = True, gpus: int = 8, rack: str = "") -> None:
    """A ready node with GPUs. Capacity can only be set through the status subresource."""
    labels = {"kubernetes.io/hostname": name, NAMES.pool_label: pool, "test/pool": pool}
    if rack:
        labels[NAMES.rack_label] = rack
    if managed:
        labels[NAMES.managed_label] = "true"
    api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    stamp = long_ago()
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": stamp}
    resources = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": str(gpus)}
    status = {"capacity": resources, "allocatable": resources, "conditions": [{**ready, "lastTransitionTime": stamp}]}
    api.strategic(f"{NODES}/{name}/status", {"status": status})


def gated_pod(namespace: str, execution: str, attempt: int, pool: str, node: str = "", gpus: int = 8) -> Object:
    """A pod as infra/pod/pod_template.py makes it, as far as the API server cares. With `node` it is bound at once."""

    def container(name: str, amount: int) -> Object:
        found: dict[str, Any] = {"name": name, "image": "lehr", "terminationMessagePolicy": "FallbackToLogsOnError"}
        if name == NAMES.preflight_container:
            found["command"] = ["python", "-m", "lehr.infra.pod.probes"]
        if amount:
            found["resources"] = {"limits": {"nvidia.com/gpu": str(amount)}}
        return found

    labels = {EXECUTION: execution, "attempt": str(attempt), "project": "olmo", NAMES.preflight_label: "true"}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"test/pool": pool},
        "initContainers": [container(NAMES.preflight_container, gpus), container(NAMES.gate_container, 0)],
        "containers": [container("primary", gpus)],
    }
    if node:
        spec["nodeName"] = node
    meta = {"name": f"{execution}-n0-{attempt}", "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def bystander(namespace: str, name: str, node: str) -> Object:
    """A pod that nobody may touch: a DaemonSet's, say."""
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 1}
    spec["tolerations"] = [{"operator": "Exists"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def sweep(api: Api, namespaces: tuple[str, ...], pool: str) -> None:
    """Remove a scenario's pods, Jobs and nodes at once."""
    from lehr.infra.kube.transport import Request

    now = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
    for name in namespaces:
        api._json(Request("DELETE", pods_path(name), body=now))
    api._json(Request("DELETE", f"/apis/batch/v1/namespaces/{NAMES.namespace}/jobs", body=now))
    tests = {"labelSelector": f"{NAMES.prefix}/suite"}  # the controller may run there too
    api._json(Request("DELETE", pods_path(NAMES.namespace), tests, now))
    api._json(Request("DELETE", NODES, {"labelSelector": f"test/pool={pool}"}, now))
