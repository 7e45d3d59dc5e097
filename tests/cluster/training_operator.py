"""A stand-in for the training operator 1.8: a PyTorchJob becomes its worker pods, and their ends become the job's.

As the operator does for elastic jobs: no master, the variables that torchrun's rendezvous needs, pods that are never restarted,
a job that fails with its first pod. Pods here share one network, so the rendezvous is at a free port of loopback and not at
the first worker's name.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from dataclasses import dataclass, field

from lehr.infra.kube.api import Api, ApiError, Object
from lehr.infra.kube.transport import Request
from lehr.runtime.errors import InfraError
from tests.cluster.kubelet import pods_path
from tests.cluster.plane import HOST, free_port
from tests.cluster.statuses import stamp

GROUP = "/apis/kubeflow.org/v1"
PAUSE_SECONDS = 0.2


@dataclass
class TrainingOperator:
    """For the jobs of one namespace. `history` is every job, by uid."""

    api: Api
    namespace: str
    history: dict[str, Object] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    @property
    def _jobs(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/pytorchjobs"

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                pods = self.api.items(pods_path(self.namespace), {"labelSelector": "training.kubeflow.org/job-name"})
                for job in self.api.items(self._jobs):
                    self._reconcile(job, [pod for pod in pods if _owner(pod) == job["metadata"]["uid"]])
            except (InfraError, ApiError) as error:
                if not self._stop.is_set():
                    self.errors.append(str(error))

    def _reconcile(self, job: Object, pods: list[Object]) -> None:
        uid, gone = job["metadata"]["uid"], bool(job["metadata"].get("deletionTimestamp"))
        if uid not in self.history and not gone:
            self.history[uid] = job
            self._tell(job, "Created")
            for pod in worker_pods(job, free_port()):
                self.api.create(pods_path(self.namespace), pod)
            return
        phases = [pod["status"].get("phase", "Pending") for pod in pods]
        if gone or self._told.get(uid) in ("Succeeded", "Failed"):
            self._end(pods)
        elif "Failed" in phases or (pods and any(pod["metadata"].get("deletionTimestamp") for pod in pods)):
            self._tell(job, "Failed")
        elif pods and set(phases) == {"Succeeded"}:
            self._tell(job, "Succeeded")
        elif pods and "Running" in phases:
            self._tell(job, "Running")

    def _end(self, pods: list[Object]) -> None:
        """What still runs; ended pods stay, as `cleanPodPolicy: Running` says."""
        for pod in pods:
            meta = pod["metadata"]
            if pod["status"].get("phase") in ("Pending", "Running") and not meta.get("deletionTimestamp"):
                with contextlib.suppress(ApiError):
                    self.api._json(Request("DELETE", pods_path(self.namespace, meta["name"]), body={}))

    def _tell(self, job: Object, kind: str) -> None:
        uid = job["metadata"]["uid"]
        if self._told.get(uid) == kind:
            return
        self._told[uid] = kind
        now = stamp()
        condition = {"type": kind, "status": "True", "reason": kind, "message": kind, "lastTransitionTime": now}
        status = {"conditions": [{**condition, "lastUpdateTime": now}], "startTime": now, "lastReconcileTime": now}
        self.api.merge(f"{self._jobs}/{job['metadata']['name']}/status", {"status": {**status, "replicaStatuses": {}}})


def _owner(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid", ""))


def worker_pods(job: Object, port: int) -> list[Object]:
    """The pods of an elastic job."""
    spec, meta = job["spec"], job["metadata"]
    workers, elastic = spec["pytorchReplicaSpecs"]["Worker"], spec["elasticPolicy"]
    assert set(spec["pytorchReplicaSpecs"]) == {"Worker"}, "an elastic job has no master"
    said = {
        "PYTHONUNBUFFERED": "1",
        "PET_RDZV_BACKEND": elastic["rdzvBackend"],
        "PET_RDZV_ENDPOINT": f"{HOST}:{port}",
        "PET_NNODES": f"{elastic['minReplicas']}:{elastic['maxReplicas']}",
        "PET_NPROC_PER_NODE": str(elastic["nProcPerNode"]),
    }
    owner = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": meta["name"], "uid": meta["uid"]}
    found = []
    for index in range(workers["replicas"]):
        template = copy.deepcopy(workers["template"])
        own = {"job-name": meta["name"], "replica-type": "worker", "replica-index": str(index)}
        labels = {**template["metadata"].get("labels", {}), **{f"training.kubeflow.org/{k}": v for k, v in own.items()}}
        for container in template["spec"]["containers"]:
            container["env"] = [*container.get("env", []), *({"name": k, "value": v} for k, v in said.items())]
        template["spec"]["restartPolicy"] = workers.get("restartPolicy", "Never")
        made = {"name": f"{meta['name']}-worker-{index}", "namespace": meta["namespace"], "ownerReferences": [owner]}
        notes = template["metadata"].get("annotations", {})
        template["metadata"] = {**made, "labels": labels, "annotations": notes}
        found.append({"apiVersion": "v1", "kind": "Pod", **template})
    return found
