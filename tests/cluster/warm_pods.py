"""Pods of Flyte's map tasks whose first process is forked from a warm one, which has loaded flytekit and the tasks already.

For tests of a thousand pods, each of which would take two to four seconds of a core to load them. What a pod then does is
flytekit's own entry point with the pod's command line and variables; it has no supervisor, no root and no user of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, cast

from lehr.infra.kube.api import Api
from lehr.infra.kube.transport import Reply, Request, Transport, connect
from lehr.runtime.errors import InfraError
from tests.cluster.containers import Container
from tests.cluster.engine_pods import EnginePods
from tests.cluster.job_pods import MAIN, JobPod
from tests.cluster.plane import ADMIN, ControlPlane

ENTRY, TASKS = "pyflyte-map-execute", "tests.cluster.engine_tasks"
PATIENCE = 120  # seconds, about
LOADED = ("__main__", "flytekit.bin.entrypoint", TASKS, __name__)


def act(words: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    """What the pod's container does, in a process of its own. Ends with its exit code."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1), os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment, TMPDIR=folder)
    tempfile.tempdir = None  # it is known from the process before
    from flytekit.bin.entrypoint import map_execute_task_cmd

    sys.argv = [ENTRY, *words]
    map_execute_task_cmd(words)


class Forked:
    """Such a process as the stand-in for a kubelet sees any of its processes."""

    _lock = threading.Lock()  # whoever starts one looks at all others

    def __init__(self, process: Any) -> None:
        self._process = process
        with self._lock:
            process.start()
        self.pid = process.pid

    def poll(self) -> int | None:
        with self._lock:
            return cast("int | None", self._process.exitcode)

    def kill(self) -> None:
        self._process.kill()

    terminate = kill

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.poll()

    @property
    def returncode(self) -> int | None:
        return self.poll()


class Patient:
    """Sends again, as a kubelet does, what a server with sixty-four pods at once did not answer in time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(self, request: Request) -> Reply:
        for _ in range(PATIENCE):
            try:
                reply = self._transport.send(request)
            except InfraError:
                time.sleep(1)
                continue
            if reply.status not in (429, 500, 503, 504):
                return reply
            time.sleep(1)
        return self._transport.send(request)


class WarmPods(EnginePods):
    """Main containers are forked."""

    def __init__(self, api: Api, plane: ControlPlane, folder: Path, programs: Path) -> None:
        patient = cast("Transport", Patient(connect(plane.kubeconfig("pods", ADMIN))))
        super().__init__(Api(patient), plane, folder, programs)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(LOADED))

    def _start(self, container: Container, command: list[str]) -> subprocess.Popen[bytes]:
        assert isinstance(container, JobPod)
        if container.spec["name"] not in MAIN:
            return super()._start(container, command)
        data = json.loads(command[-1])
        entry = next(at for at, word in enumerate(data["command"]) if word.endswith(ENTRY))
        folder = container.folder / "volumes" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        given = (data["command"][entry + 1 :], data["environment"], str(folder), str(container.log_path))
        return cast("subprocess.Popen[bytes]", Forked(self._context.Process(target=act, args=given)))
