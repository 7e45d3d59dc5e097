"""The kubelet stand-in for pods of Flyte's engine, and what may happen to them.

Beyond pods of Jobs: variables that name a field of the pod, and faults of single attempts. The checkout stands in for the
image, so it is where a container looks for modules.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Api, Object
from tests.cluster.containers import ROOT, Container
from tests.cluster.job_pods import MAIN, MESSAGES, JobPod, JobPods
from tests.cluster.plane import HOST, ControlPlane

MOST_WORKERS = 2
AT_WORK = "at work"  # what a test's task prints


@dataclass(frozen=True)
class Fault:
    """Of one pod. `verdict`: its preflight says that the machine is bad, and its gate runs. `init` gives exit codes of init
    containers. `waiting` is a reason for which no container ever starts. `act` is called once the main container has printed
    `when`."""

    verdict: str = ""
    init: tuple[tuple[str, int], ...] = ()
    waiting: str = ""
    act: Callable[[EnginePod], None] | None = None
    when: str = AT_WORK


@dataclass
class EnginePod(JobPod):
    """`attempt` is 0 for the first pod of a node."""

    fault: Fault | None = None
    acted: bool = False

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.pod["metadata"]["labels"])

    @property
    def job(self) -> str:
        """The PyTorchJob's name: EXECUTION-n0-0-STAGE-ATTEMPT. Its pods have none of Flyte's labels."""
        return self.labels.get("training.kubeflow.org/job-name", "")

    @property
    def execution(self) -> str:
        return self.labels.get("execution-id", "") or self.job.partition("-n0-")[0]

    @property
    def node(self) -> str:
        """The node of the graph: the stage's name."""
        return self.labels.get("node-id", "") or self.labels.get(NAMES.stage_label, "")

    @property
    def attempt(self) -> int:
        return int(self.name.rpartition("-")[2])

    def said(self) -> str:
        """The log of the container that runs, or ran last."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def machine(self) -> str:
        return str(self.pod["spec"]["nodeName"])


@dataclass
class Faults:
    """By execution and node of the graph, which may be `*`; each happens to a first attempt, once."""

    planned: dict[tuple[str, str], Fault] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, pod: EnginePod) -> Fault | None:
        with self.lock:
            for key in ((pod.execution, pod.node), (pod.execution, "*")):
                if key in self.planned:
                    return self.planned.pop(key)
        return None


class EnginePods(JobPods):
    """Every init container is taken as passed, unless a fault says something else."""

    container_type = EnginePod

    def __init__(self, api: Api, plane: ControlPlane, folder: Path, programs: Path) -> None:
        super().__init__(api, plane, folder, programs)
        self.faults = Faults()

    def of(self, execution: str, node: str = "") -> list[EnginePod]:
        """Its pods in the order of their coming."""
        found = [pod for pod in list(self.history.values()) if isinstance(pod, EnginePod) and pod.execution == execution]
        return [pod for pod in found if node in ("", pod.node)]

    def _run(self, container: Container) -> None:
        assert isinstance(container, EnginePod)
        container.fault = self.faults.of(container)
        container.folder.mkdir(parents=True, exist_ok=True)
        container.log_path.touch()
        if container.fault is not None and container.fault.waiting:
            self.history[container.pod["metadata"]["uid"]] = container
            self._tell(container, "Pending")
            container.ending.wait()
            self._finish(container, "Failed")
        else:
            super()._run(container)

    def _init(self, container: JobPod) -> int:
        assert isinstance(container, EnginePod)
        fault, name = container.fault or Fault(), container.spec["name"]
        container.log_path.touch()
        if fault.verdict and name == NAMES.gate_container:
            return self._one(container)
        message = fault.verdict if name == NAMES.preflight_container else ""
        code = self._ended(container, dict(fault.init).get(name, 0), message)
        if message:
            shared = container.folder / "volumes" / "lehr"
            shared.mkdir(parents=True, exist_ok=True)
            (shared / "verdict.json").write_text(message)
        return code

    def _hosts(self, container: Container) -> str:
        """With the names of the other pods of its job, which share one network here."""
        assert isinstance(container, EnginePod)
        names = [f"{HOST} {container.job}-worker-{index}" for index in range(MOST_WORKERS) if container.job]
        own = [line for line in super()._hosts(container).splitlines() if not line.endswith(f" {container.name}")]
        return "\n".join([*(own if container.job else super()._hosts(container).splitlines()), *names]) + "\n"

    def _disturb(self, container: JobPod) -> None:
        assert isinstance(container, EnginePod)
        fault = container.fault
        if fault is None or fault.act is None or container.acted or container.spec["name"] not in MAIN:
            return
        if fault.when in container.log_path.read_text(errors="replace"):
            container.acted = True
            fault.act(container)

    def _status_of(self, container: JobPod, spec: Object) -> Object:  # type: ignore[override]
        status = super()._status_of(container, spec)
        assert isinstance(container, EnginePod)
        if container.fault is not None and container.fault.waiting and not container.ending.is_set():
            status |= {"state": {"waiting": {"reason": container.fault.waiting, "message": "not found"}}, "ready": False}
        return status

    def _environment(self, container: Container) -> dict[str, str]:
        spec, fields = container.spec, {}
        for variable in spec.get("env", []):
            if "fieldRef" in variable.get("valueFrom", {}):
                fields[variable["name"]] = _field(container.pod, variable["valueFrom"]["fieldRef"]["fieldPath"])
        plain = {**spec, "env": [v for v in spec.get("env", []) if v["name"] not in fields]}
        found = _with_spec(container, plain, super()._environment)
        return {**found, **fields, "PYTHONPATH": str(ROOT), "LEHR_TERMINATION_LOG": f"{MESSAGES}/{spec['name']}"}


def _with_spec(container: Container, spec: Object, call: Callable[[Container], dict[str, str]]) -> dict[str, str]:
    assert isinstance(container, EnginePod)
    before, container.current = container.current, spec
    try:
        return call(container)
    finally:
        container.current = before


def _field(pod: Object, path: str) -> str:
    """Of `metadata.name`, `status.podIP` and such; a label or annotation is in brackets."""
    if path.endswith("']"):
        kind, _, key = path.partition("['")
        return str(pod["metadata"][kind.rpartition(".")[2]].get(key[:-2], ""))
    at: object = pod
    for part in path.split("."):
        at = at.get(part, "") if isinstance(at, dict) else ""
    return str(at)


# -- what happens to a pod


def killed(pod: EnginePod) -> None:
    pod.kill()


def out_of_memory(pod: EnginePod) -> None:
    pod.reason = "OOMKilled"
    pod.kill()


def evicted(pod: EnginePod) -> None:
    """With time to save: for a soft threshold. At a hard one it has a second, then SIGKILL."""
    pod.pod_reason = "Evicted"
    pod.kill(signal.SIGTERM)


def shut_down(pod: EnginePod) -> None:
    """As a kubelet whose machine is taken away: SIGTERM, and a reason of the pod."""
    pod.pod_reason = "Terminated"
    pod.kill(signal.SIGTERM)
