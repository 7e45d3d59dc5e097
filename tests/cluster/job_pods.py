"""The kubelet stand-in for pods of Jobs: init containers before the main one, termination messages, logs over the API.

As a kubelet does, it brings a pod that is deleted to an end with an exit code before it lets it go. Preflights are taken as
passed but for the stages that `preflights` names, where they run.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lehr.infra.kube.api import NODES, Api, ApiError, Object
from lehr.infra.kube.transport import Request
from lehr.infra.pod.supervisor import descendants
from tests.cluster.containers import PAUSE_SECONDS, Container, Containers
from tests.cluster.kubelet import pods_path
from tests.cluster.plane import HOST, ControlPlane, with_parent
from tests.cluster.statuses import stamp

MESSAGES = "/termination"  # a kubelet binds a file of its own over /dev/termination-log; here /dev is the machine's
LOG_BYTES = 2048  # of a log that serves as a termination message
MAIN = ("primary", "pytorch")  # the engine renames the container of a job for several machines


@dataclass
class JobPod(Container):
    """`current` is the container that runs; `ended` are the states of those that have. `reason` is that of a container's end,
    if the kernel or the kubelet has one, and `pod_reason` the pod's."""

    current: Object | None = None
    reason: str = ""
    pod_reason: str = ""
    ended: dict[str, Object] = field(default_factory=dict)

    @property
    def spec(self) -> Object:
        return self.current or self.pod["spec"]["containers"][0]

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.spec['name']}.log"

    @property
    def message_path(self) -> Path:
        return self.folder / "messages" / str(self.spec["name"])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End all of its processes, as the kernel does when a container's first one dies."""
        assert self.process is not None
        found = [self.process.pid, *(descendants(self.process.pid) if number == signal.SIGKILL else ())]
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


class JobPods(Containers):
    """Pods of Jobs. `history` is every pod that ran, by uid."""

    container_type = JobPod
    preflights = ("stage1",)

    def __init__(self, api: Api, plane: ControlPlane, folder: Path, programs: Path) -> None:
        super().__init__(api, plane, folder, programs)
        self.history: dict[str, JobPod] = {}
        self.port = _serve_logs(plane, self)

    def of_stage(self, stage: str) -> list[JobPod]:
        found = [pod for pod in list(self.history.values()) if pod.pod["metadata"]["labels"].get("lehr.dev/stage") == stage]
        return sorted(found, key=lambda pod: [int(part) for part in pod.address.split(".")])  # they are given out in order

    def serve_logs_of(self, node: str) -> None:
        """Tell the API server where the kubelet of `node` is."""
        status = {
            "addresses": [{"type": "InternalIP", "address": HOST}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }
        self.api.merge(f"{NODES}/{node}/status", {"status": status})

    def _run(self, container: Container) -> None:
        assert isinstance(container, JobPod)
        self.history[container.pod["metadata"]["uid"]] = container
        for spec in container.pod["spec"].get("initContainers", []):
            container.current = spec
            if self._init(container) != 0:
                self._finish(container, "Failed")
                return
        container.current = container.pod["spec"]["containers"][0]
        code = self._one(container)
        self._finish(container, "Failed" if code else "Succeeded")

    def _init(self, container: JobPod) -> int:
        """Run the current init container, or take it as passed; its exit code."""
        if container.pod["metadata"]["labels"].get("lehr.dev/stage") in self.preflights:
            return self._one(container)
        return self._ended(container, 0)

    @staticmethod
    def _ended(container: JobPod, code: int, message: str = "") -> int:
        reason = container.reason or ("Completed" if code == 0 else "Error")
        state = {"exitCode": code, "reason": reason, "finishedAt": stamp(), "message": message}
        container.ended[container.spec["name"]] = state
        return code

    def _one(self, container: JobPod) -> int:
        """Run the current container to its end; its exit code."""
        (container.folder / "messages").mkdir(parents=True, exist_ok=True)
        (container.folder / "messages").chmod(0o777)
        container.process = self._start(container, self._prepare(container))
        self._tell(container, "Running" if container.spec["name"] in MAIN else "Pending")
        asked, grace = 0.0, float(container.pod["spec"].get("terminationGracePeriodSeconds", 30))
        while container.process.poll() is None:
            self._disturb(container)
            if container.ending.is_set() and not asked:
                asked = time.monotonic()
                container.kill(signal.SIGTERM)
            if asked and time.monotonic() - asked > grace:
                container.kill()
            time.sleep(PAUSE_SECONDS)
        code = container.process.returncode
        code = code if code >= 0 else 128 - code
        return self._ended(container, code, self._message(container, code))

    def _disturb(self, container: JobPod) -> None:
        """Called again and again while a container runs."""

    @staticmethod
    def _message(container: JobPod, code: int) -> str:
        said = container.message_path.read_text(errors="replace") if container.message_path.exists() else ""
        log = container.log_path.read_text(errors="replace")
        return said[:4096] or (log[-LOG_BYTES:] if code else "")

    def _finish(self, container: JobPod, phase: str) -> None:
        self.logs[container.name] = container.log_path.read_text(errors="replace")
        self._tell(container, phase)
        if container.ending.is_set():
            meta = container.pod["metadata"]
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            with contextlib.suppress(ApiError):
                self.api._json(Request("DELETE", pods_path(meta["namespace"], meta["name"]), body=body))

    def _tell(self, container: JobPod, phase: str) -> None:
        def statuses(kind: str) -> list[Object]:
            return [self._status_of(container, spec) for spec in container.pod["spec"].get(kind, [])]

        ready = "True" if phase == "Running" else "False"
        conditions = [
            {
                "type": kind,
                "status": "True" if kind in ("PodScheduled", "Initialized") else ready,
                "lastTransitionTime": stamp(),
            }
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        status: dict[str, Any] = {"phase": phase, "podIP": container.address, "podIPs": [{"ip": container.address}]}
        status |= {"startTime": stamp(), "conditions": conditions, "containerStatuses": statuses("containers")}
        status["initContainerStatuses"] = statuses("initContainers")
        status |= {"reason": container.pod_reason} if container.pod_reason else {}
        meta = container.pod["metadata"]
        with contextlib.suppress(ApiError):  # it went meanwhile
            path = f"{pods_path(meta['namespace'], meta['name'])}/status"
            self.api.merge(path, {"metadata": {"uid": meta["uid"]}, "status": status})

    @staticmethod
    def _status_of(container: JobPod, spec: Object) -> Object:
        name, state = spec["name"], {"waiting": {"reason": "PodInitializing"}}
        if name in container.ended:
            state = {"terminated": container.ended[name]}
        elif name == container.spec["name"]:
            state = {"running": {"startedAt": stamp()}}
        return {
            "name": name,
            "image": spec["image"],
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }

    # -- what a container has around it

    def _environment(self, container: Container) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.spec.get("envFrom", []):
            found |= self._secret(container, source["secretRef"]["name"])
        found |= super()._environment(container)
        return {**found, "LEHR_TERMINATION_LOG": f"{MESSAGES}/{container.spec['name']}"}

    def _mounts(self, container: Container) -> dict[str, tuple[str, bool]]:
        return {**super()._mounts(container), MESSAGES: (str(container.folder / "messages"), True)}

    def _start(self, container: Container, command: list[str]) -> subprocess.Popen[bytes]:
        assert isinstance(container, JobPod)
        with container.log_path.open("ab") as log:
            return subprocess.Popen(with_parent(command), stdout=log, stderr=log)


def _serve_logs(plane: ControlPlane, pods: JobPods) -> int:
    """What the API server asks a kubelet for; returns the port."""

    class Logs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, namespace, name, container = self.path.partition("?")[0].split("/")
            found = [p for p in pods.history.values() if (p.name, p.pod["metadata"]["namespace"]) == (name, namespace)]
            path = found[0].folder / f"{container}.log" if found else None
            body = path.read_bytes() if path is not None and path.exists() else b""
            self.send_response(200 if path is not None else 404)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer((HOST, 0), Logs)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.folder / "server.crt", plane.folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def secret(namespace: str, name: str, values: dict[str, str]) -> Object:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
