"""Writes of the controller's account in other places than its own, for tests/cluster/test_rights.py."""

from __future__ import annotations

from collections.abc import Callable

from lehr.infra.controller.jobs import job
from lehr.infra.controller.objects import NODE
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import node_object
from lehr.infra.fleet.actions import StartRevalidation
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.views import NodeRecord
from lehr.infra.kube.api import NODES, Api, Object
from lehr.infra.kube.transport import Request
from tests.cluster.conftest import OTHER, TRAINING
from tests.cluster.kubelet import pods_path

SYSTEM = NAMES.namespace
Try = tuple[str, bool, Callable[[], object]]


def beside(api: Api, admin: Api) -> list[Try]:
    """The right verb on the right kind, in another place than its own."""

    def remove(namespace: str, name: str) -> Callable[[], object]:
        def call() -> object:
            body = node_job(admin, namespace=namespace)
            body["metadata"]["name"] += "-ends"
            if name != "test":
                body["metadata"]["labels"] = {"x": "y"}  # without any, the server would copy the template's
            made = admin.create(jobs_path(namespace), body)["metadata"]
            return api.delete(f"{jobs_path(namespace)}/{made['name']}", made["uid"])

        return call

    def lease(namespace: str, name: str) -> Callable[[], object]:
        def call() -> object:
            path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
            if name != "lehr-controller" or namespace != SYSTEM:
                admin.create(path, {"metadata": {"name": name}})
            return api.replace(f"{path}/{name}", admin.get(f"{path}/{name}"))

        return call

    def event(namespace: str, kind: str, component: str = "lehr-controller") -> Callable[[], object]:
        about: Object = {"kind": kind, "name": "x", "apiVersion": "v1"}
        if kind != "Node" or namespace != "default":
            about["namespace"] = namespace
        body = {"metadata": {"generateName": "x."}, "involvedObject": about, "reason": "X", "source": {"component": component}}
        return lambda: api.create(f"/api/v1/namespaces/{namespace}/events", body)

    def every(path: str) -> Callable[[], object]:
        return lambda: api._json(Request("DELETE", path, body={}))

    return [
        ("delete a Job that tested a node", True, remove(SYSTEM, "test")),
        ("delete another Job of lehr-system", False, remove(SYSTEM, "other")),
        ("delete a Job of a training namespace", False, remove(TRAINING, "test")),
        ("delete all Jobs of lehr-system", False, every(jobs_path(SYSTEM))),
        ("delete all pods of a training namespace", False, every(pods_path(TRAINING))),
        ("renew its own Lease", True, lease(SYSTEM, "lehr-controller")),
        ("write another Lease of lehr-system", False, lease(SYSTEM, "another")),
        ("write another namespace's Lease", False, lease(OTHER, "lehr-controller")),
        ("write an Event about a node", True, event("default", "Node")),
        ("write an Event about a pod", False, event("default", "Pod")),
        ("write an Event in another's name", False, event("default", "Node", "kubelet")),
        ("write an Event elsewhere", False, event(OTHER, "Pod")),
    ]


def jobs_path(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def node_job(admin: Api, namespace: str = SYSTEM, token: bool = False, secret: bool = False, first: bool = False) -> Object:
    cached = node_object(admin.get(f"{NODES}/fenced"), "nvidia.com/gpu")
    made = job(cached, StartRevalidation("fenced", NodeRecord(), 1, "revalidation"), Settings())
    assert made["metadata"]["annotations"][NODE] == "fenced"
    made["metadata"]["namespace"] = namespace
    pod = made["spec"]["template"]["spec"]
    if token:
        pod["automountServiceAccountToken"] = True
        made["metadata"]["name"] += "-token"
    if secret:
        pod["volumes"].append({"name": "s", "secret": {"secretName": "s"}})
        made["metadata"]["name"] += "-secret"
    if first:
        made["metadata"]["name"] += "-first"
        pod["initContainers"] = [{**pod["containers"][0], "name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]
    return made
