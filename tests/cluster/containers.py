"""A kubelet stand-in that runs containers: each as a process with a root of its own, as the user that the pod says.

What it takes of a pod: command, arguments, environment, ConfigMaps, Secrets, emptyDirs, the account's token, the readiness
probe, restarts and the grace period. What it is not: no network of its own (a pod has an address on loopback, and what listens
on all addresses is told that one), no cgroup, no image: the checkout is the image of Lehr.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.infra.kube.api import Api, ApiError, Object
from lehr.infra.kube.transport import Request
from lehr.runtime.errors import InfraError
from lehr.tasks.exporting import ADDRESS, LAST_SCRAPE, PORT
from tests.cluster.kubelet import Cluster, pods_path
from tests.cluster.plane import ControlPlane, with_parent
from tests.cluster.statuses import stamp

ROOT = Path(__file__).resolve().parents[2]
OURS = "app.kubernetes.io/part-of"
TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"
EVERYWHERE = "0.0.0.0"
PROGRAMS = "/programs"
PAUSE_SECONDS = 0.1


@dataclass
class Container:
    """One pod with one container. `process` is the running one; `restarts` how many ended before it."""

    pod: Object
    address: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    ready: bool = False
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def spec(self) -> Object:
        return self.pod["spec"]["containers"][0]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace") if (self.folder / "log").exists() else ""


def field_of(pod: Object, path: str, address: str) -> str:
    """A field of a pod's, as the downward API gives it to a variable."""
    if path == "status.podIP":
        return address
    found = re.fullmatch(r"(metadata|spec)\.(\w+)(?:\['([^']+)'\])?", path)
    assert found is not None, path
    value = pod[found[1]].get(found[2], "")
    return str(value.get(found[3], "") if found[3] else value)


class Containers:
    """Every pod of the chart's, by uid. What is in the folder `programs` comes first on every container's PATH."""

    container_type: type[Container] = Container

    def __init__(self, api: Api, plane: ControlPlane, folder: Path, programs: Path) -> None:
        self.api, self.plane, self.folder, self.programs = api, plane, folder, programs
        self.running: dict[str, Container] = {}
        self.errors: list[str] = []
        self.logs: dict[str, str] = {}  # of pods that are gone, by name
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])  # each has a cluster of its own on the one loopback
        self._addresses = (f"127.{worker + 1}.{n // 250}.{n % 250 + 1}" for n in itertools.count())

    def changed(self, kind: str, pod: Object) -> None:
        """What the watch says of a pod."""
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            gone = self.running.pop(uid, None)
            if gone is not None:
                self.logs[gone.name] = gone.log
                gone.ending.set()
        elif uid in self.running:
            if pod["metadata"].get("deletionTimestamp"):
                self.running[uid].ending.set()
        elif pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
            made = self.container_type(pod, next(self._addresses), self.folder / uid)
            self.running[uid] = made
            threading.Thread(target=self._live, args=(made,), daemon=True).start()

    def by_prefix(self, prefix: str) -> list[Container]:
        return [c for c in list(self.running.values()) if c.name.startswith(prefix) and not c.ending.is_set()]

    def stop(self) -> None:
        for container in list(self.running.values()):
            container.ending.set()
            if container.process is not None:
                container.process.kill()

    # -- one pod's life

    def _live(self, container: Container) -> None:
        try:
            self._run(container)
        except (InfraError, OSError, KeyError, AssertionError) as error:
            if not container.ending.is_set():
                self.errors.append(f"{container.name}: {type(error).__name__}: {error}")

    def _run(self, container: Container) -> None:
        command = self._prepare(container)
        while True:
            container.process = self._start(container, command)
            self._report(container, "Running")
            while container.process.poll() is None and not container.ending.is_set():
                self._probe(container)
                time.sleep(PAUSE_SECONDS)
            if container.ending.is_set():
                self._terminate(container)
                return
            code, container.ready = container.process.returncode, False
            if container.pod["spec"].get("restartPolicy", "Always") != "Always":
                self.logs[container.name] = container.log
                self._report(container, "Failed" if code else "Succeeded", code)
                return
            container.restarts += 1
            self._report(container, "Running")
            time.sleep(0.5)

    def _terminate(self, container: Container) -> None:
        process = container.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(float(container.pod["spec"].get("terminationGracePeriodSeconds", 30)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        meta = container.pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        with contextlib.suppress(ApiError):  # gone already
            self.api._json(Request("DELETE", pods_path(meta["namespace"], meta["name"]), body=body))

    def _probe(self, container: Container) -> None:
        probe = container.spec.get("readinessProbe")
        if probe is None or container.ready:
            return
        named = {p["name"]: p["containerPort"] for p in container.spec["ports"]}
        url = f"http://{container.address}:{named[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            container.ready = answer.status == 200
        if container.ready:
            self._report(container, "Running")

    # -- what it has around it

    def _prepare(self, container: Container) -> list[str]:
        (container.folder / "root").mkdir(parents=True, exist_ok=True)
        pod, spec = container.pod["spec"], container.spec
        host = sorted({str(ROOT), str(Path(sys.prefix).resolve()), sys.base_prefix})
        words = [*spec.get("command", []), *spec.get("args", [])]
        root = os.geteuid() == 0
        data: dict[str, Any] = {
            "root": str(container.folder / "root"),
            "outside": os.readlink("/proc/self/ns/uts"),
            "host": host,
            "hosts": self._hosts(container),
            "mounts": self._mounts(container),
            "folder": str(ROOT),
            "user": pod["securityContext"]["runAsUser"] if root else 0,
            "command": [word.replace(EVERYWHERE, container.address) for word in words],
            "environment": self._environment(container),
        }
        own = ["unshare", "--mount", "--uts", *([] if root else ["--map-root-user"])]
        return [*own, sys.executable, str(Path(__file__).with_name("container_root.py")), json.dumps(data)]

    def _environment(self, container: Container) -> dict[str, str]:
        path = [PROGRAMS, f"{sys.prefix}/bin", "/usr/bin", "/bin"]
        found = {"PATH": ":".join(path), "HOSTNAME": container.name}
        # Pods share this machine's network, and no Prometheus fetches what a short task says last.
        found |= {ADDRESS: "127.0.0.1", PORT: "0", LAST_SCRAPE: "0"}
        found |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.plane.port)}
        for variable in container.spec.get("env", []):
            found[variable["name"]] = variable.get("value", "")
            if "valueFrom" in variable:
                found[variable["name"]] = self._from(container, variable["valueFrom"])
        return found

    def _from(self, container: Container, source: Object) -> str:
        if "fieldRef" in source:
            return field_of(container.pod, source["fieldRef"]["fieldPath"], container.address)
        wanted = source["secretKeyRef"]
        return self._secret(container, wanted["name"])[wanted["key"]]

    def _mounts(self, container: Container) -> dict[str, tuple[str, bool]]:
        """Target -> (source, may be written)."""
        volumes = {volume["name"]: volume for volume in container.pod["spec"].get("volumes", [])}
        found = {PROGRAMS: (str(self.programs), False)}
        for mount in container.spec.get("volumeMounts", []):
            volume, source = volumes[mount["name"]], container.folder / "volumes" / mount["name"]
            source.mkdir(parents=True, exist_ok=True)
            if "configMap" in volume:
                self._fill(container, source, self._config(container, volume["configMap"]["name"]))
            elif "secret" in volume:
                self._fill(container, source, self._secret(container, volume["secret"]["secretName"]))
            elif "projected" in volume:
                self._fill(container, source, self._token(container))
            else:
                source.chmod(0o777)
            found[mount["mountPath"]] = (str(source), not ({"configMap", "secret", "projected"} & set(volume)))
        return found

    def _fill(self, container: Container, folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).write_text(text.replace(EVERYWHERE, container.address), encoding="utf-8")

    def _config(self, container: Container, name: str) -> dict[str, str]:
        return dict(self.api.get(f"/api/v1/namespaces/{container.pod['metadata']['namespace']}/configmaps/{name}")["data"])

    def _secret(self, container: Container, name: str) -> dict[str, str]:
        found = self.api.get(f"/api/v1/namespaces/{container.pod['metadata']['namespace']}/secrets/{name}")["data"]
        return {key: base64.b64decode(value).decode() for key, value in found.items()}

    def _token(self, container: Container) -> dict[str, str]:
        namespace, account = container.pod["metadata"]["namespace"], container.pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token = self.api.create(path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
        return {"token": token, "namespace": namespace, "ca.crt": (self.plane.folder / "ca.crt").read_text()}

    def _hosts(self, container: Container) -> str:
        """Services of the namespace by name: every address of a ready pod that they select."""
        namespace = container.pod["metadata"]["namespace"]
        lines = ["127.0.0.1 localhost", f"{container.address} {container.name}"]
        for service in self.api.items(f"/api/v1/namespaces/{namespace}/services"):
            name, selector = service["metadata"]["name"], service["spec"].get("selector") or {}
            for other in list(self.running.values()):
                chosen = selector and selector.items() <= other.pod["metadata"]["labels"].items()
                if chosen and other.ready and not other.ending.is_set():
                    lines.append(f"{other.address} {name} {name}.{namespace} {name}.{namespace}.svc")
        return "\n".join(lines) + "\n"

    def _start(self, container: Container, command: list[str]) -> subprocess.Popen[bytes]:
        with (container.folder / "log").open("ab") as log:
            return subprocess.Popen(with_parent(command), stdout=log, stderr=log)

    def _report(self, container: Container, phase: str, code: int | None = None) -> None:
        state: Object = {"running": {"startedAt": stamp()}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": stamp()}}
        ready = "True" if container.ready else "False"
        conditions = [
            {
                "type": kind,
                "status": "True" if kind in ("PodScheduled", "Initialized") else ready,
                "lastTransitionTime": stamp(),
            }
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        status = {
            "phase": phase,
            "podIP": container.address,
            "podIPs": [{"ip": container.address}],
            "startTime": stamp(),
            "conditions": conditions,
            "containerStatuses": [
                {"name": container.spec["name"], "image": container.spec["image"], "imageID": "", "ready": container.ready,
                 "restartCount": container.restarts, "state": state}
            ],
        }  # fmt: skip
        meta = container.pod["metadata"]
        path = f"{pods_path(meta['namespace'], meta['name'])}/status"
        with contextlib.suppress(ApiError):  # it went meanwhile
            self.api.merge(path, {"metadata": {"uid": meta["uid"]}, "status": status})


@dataclass
class Kubelet(Cluster):
    """As its parent, but for the pods of the chart, which run."""

    containers: Containers | None = None

    def _changed(self, kind: str, pod: Object) -> None:
        if self.containers is not None and pod["metadata"].get("labels", {}).get(OURS) == "lehr":
            self.containers.changed(kind, pod)
        else:
            super()._changed(kind, pod)
