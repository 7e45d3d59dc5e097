"""Flyte's own engine on the test cluster: flytepropeller against the real API server, with the settings that the chart names.

What `pyflyte package` writes is compiled by the engine's own compiler into a FlyteWorkflow object, as flyteadmin would, and the
object's status says how a run goes. The engine listens nowhere. It sends its events to a double of flyteadmin.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lehr.infra.kube.api import Api, ApiError, Object, Watch
from lehr.runtime.errors import InfraError
from tests.cluster.chart import CHART
from tests.cluster.plane import with_parent
from tests.cluster.provide import find
from tests.storage.s3_server import KEY, SECRET

ROOT = Path(__file__).resolve().parents[2]
PROJECT, DOMAIN = "lehr", "development"
NAMESPACE = f"{PROJECT}-{DOMAIN}"
FLYTE_BUCKET = "flyte"
MOST_DEATHS = 5
Input = str | list[str]
Inputs = Mapping[str, Input]
PHASES = {3: "succeeded", 5: "failed", 6: "aborted"}
WORKFLOW_TYPE = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/flyteworkflows.flyte.lyft.com"
WORKFLOWS = f"/apis/flyte.lyft.com/v1alpha1/namespaces/{NAMESPACE}/flyteworkflows"


def program(name: str) -> str:
    found = find(name)
    assert found is not None, f"no {name}: run `make control-plane` first"
    return str(found)


def package(folder: Path, modules: Sequence[str], variables: Mapping[str, str] | None = None) -> Path:
    """What `pyflyte package` makes of the workflows in `modules`: an archive."""
    archive = folder / "package.tgz"
    named = [part for module in modules for part in ("--pkgs", module)]
    command = [
        str(Path(sys.executable).with_name("pyflyte")),
        *named,
        "package",
        "-f",
        "--image",
        "lehr:test",
        "-o",
        str(archive),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **(variables or {})}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0 and archive.is_file(), done.stdout + done.stderr
    return archive


def documented_links() -> Object:
    """The links on the console's pages that docs/fleet.md tells an operator to configure."""
    page = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- links: .*?-->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    told: Object = yaml.safe_load(found.group(1))["plugins"]
    return told


def settings(kubeconfig: Path, address: str, admin: str) -> Object:
    """The engine's: those of the chart's README for flyte-binary, and where everything is; flyteadmin at HOST:PORT."""
    said = yaml.safe_load((CHART / "files" / "flyte" / "flyte-binary.yaml").read_text())["configuration"]["inline"]
    plugins, kinds = said["plugins"]["k8s"], said["tasks"]["task-plugins"]
    said["plugins"] |= documented_links()
    kinds["enabled-plugins"] = [*kinds["enabled-plugins"], "pytorch"]
    kinds["default-for-task-types"] = {**kinds["default-for-task-types"], "pytorch": "pytorch"}
    plugins["image-pull-backoff-grace-period"] = "2s"  # three minutes, else
    keys = {"auth_type": "accesskey", "access_key_id": KEY, "secret_key": SECRET}
    stow = {"kind": "s3", "config": {**keys, "region": "us-east-1", "endpoint": address, "disable_ssl": "true"}}
    return {
        **said,
        "storage": {**said["storage"], "type": "stow", "stow": stow, "container": FLYTE_BUCKET},
        "propeller": {
            **said["propeller"],
            "kube-config": str(kubeconfig),
            "create-flyteworkflow-crd": True,
            "enable-admin-launcher": False,
            "rawoutput-prefix": f"s3://{FLYTE_BUCKET}/raw",
            "metadata-prefix": "metadata",
            "workers": 8,
            "kube-client-config": {"qps": 200, "burst": 400, "timeout": "30s"},
        },
        "event": {"type": "admin"},
        "catalog-cache": {"type": "noop"},
        # Called for events alone: there are no launch plans to look up.
        "admin": {"endpoint": f"dns:///{admin}", "insecure": True, "authType": "ExternalCommand"},
        "logger": {"level": 3},
    }


@dataclass(frozen=True)
class Paid:
    """What one node of a run cost. `user` and `system` are retries, out of two budgets."""

    user: int
    system: int


@dataclass
class Engine:
    """The running engine, and a watch of its workflows. `costs` is per run and node the most that was seen: the engine forgets
    what happened in a node once that has succeeded."""

    api: Api
    folder: Path
    begin: Callable[[], subprocess.Popen[bytes]]
    objects: dict[str, Object] = field(default_factory=dict)
    costs: dict[str, dict[str, Paid]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.process, self.deaths = self.begin(), 0
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        self._keeps = threading.Thread(target=self._keep, daemon=True)
        self._keeps.start()

    def start(self, execution: str, archive: Path, workflow: str, inputs: Inputs, parallel: int = 0) -> None:
        """Begin a run of `workflow` out of `archive`; inputs that are left out get the workflow's defaults."""
        path = self.folder / f"{execution}.pb"
        path.write_bytes(literals(inputs))
        command = [program("flyte-compile"), "-specs", str(archive), "-workflow", workflow, "-inputs", str(path)]
        command += ["-project", PROJECT, "-domain", DOMAIN, "-execution", execution, "-max-parallelism", str(parallel)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        self.api.create(WORKFLOWS, json.loads(done.stdout))

    def phase(self, execution: str) -> str:
        """succeeded, failed or aborted; empty while it runs."""
        return PHASES.get(int(self.objects.get(execution, {}).get("status", {}).get("phase", 0)), "")

    def ended(self, execution: str, seconds: float = 600) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.deaths < MOST_DEATHS:
            if phase := self.phase(execution):
                return phase
            time.sleep(0.1)
        raise AssertionError(f"{execution} has not ended ({self.process.poll()}):\n{self.why(execution)}")

    def error(self, execution: str) -> Object:
        """Of a run that failed: `code`, `kind` and `message`."""
        return dict((self.objects[execution].get("status") or {}).get("error") or {})

    def why(self, execution: str) -> str:
        status = json.dumps(self.objects.get(execution, {}).get("status"))
        return f"{status[:6000]}\n{(self.folder / 'log').read_text(errors='replace')[-6000:]}"

    def stop(self) -> None:
        self._stop.set()
        if self._watch is not None:
            self._watch.close()
        self.process.kill()
        self._keeps.join(30)
        self._thread.join(5)

    def _keep(self) -> None:
        """Start it again when it has died, as Kubernetes does: propeller 1.16.8 panics (`streak` in handler.go) if a workflow
        is deleted while it looks at it."""
        while self.process.wait() is not None and not self._stop.is_set() and self.deaths < MOST_DEATHS:
            self.deaths += 1
            self.process = self.begin()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                listing = self.api.get(WORKFLOWS)
                for item in listing["items"] or []:
                    self._note(item)
                self._watch = self.api.watch(WORKFLOWS, listing["metadata"]["resourceVersion"], {}, 3600)
                for kind, item in self._watch:
                    if kind in ("ADDED", "MODIFIED"):
                        self._note(item)
            except (InfraError, ApiError):
                self._stop.wait(0.1)

    def _note(self, item: Object) -> None:
        name = item["metadata"]["name"]
        self.objects[name] = item
        for node, paid in costs((item.get("status") or {}).get("nodeStatus") or {}):
            before = self.costs.setdefault(name, {}).get(node, Paid(0, 0))
            self.costs[name][node] = Paid(max(before.user, paid.user), max(before.system, paid.system))


def costs(nodes: Object) -> list[tuple[str, Paid]]:
    """Of every node of a status, those inside others too. `attempts` counts retries of both kinds."""
    found = []
    for name, status in nodes.items():
        system = int(status.get("systemFailures", 0))
        found.append((name, Paid(int(status.get("attempts", 0)) - system, system)))
        found += costs(status.get("subNodeStatus") or {})
        if "arrayNodeStatus" in status:
            found += _elements(name, status["arrayNodeStatus"])
    return found


def _elements(name: str, status: Object) -> list[tuple[str, Paid]]:
    """Of a map task, as NAME[0] and so on."""
    attempts, failures = (_numbers(status.get(key) or {}) for key in ("subattempts", "subsysfailures"))
    return [(f"{name}[{i}]", Paid(a - b, b)) for i, (a, b) in enumerate(zip(attempts, failures, strict=True))]


def _numbers(packed: Object) -> list[int]:
    """The engine's array of small numbers: `item` bits each, their highest first, in words of 64 from the lowest bit on. Words
    at its end that are zero may be missing."""
    width, count, words = int(packed.get("item", 0)), int(packed.get("count", 0)), packed.get("BitSet") or []
    bits = "".join(str((word >> i) & 1) for word in words for i in range(64)).ljust(width * count, "0")
    return [int(bits[i * width : (i + 1) * width], 2) for i in range(count)]


def literals(values: Inputs) -> bytes:
    """A serialised LiteralMap."""
    from flyteidl.core import literals_pb2 as pb

    def one(value: Input) -> Any:
        if isinstance(value, list):
            return pb.Literal(collection=pb.LiteralCollection(literals=[one(item) for item in value]))
        return pb.Literal(scalar=pb.Scalar(primitive=pb.Primitive(string_value=value)))

    return bytes(pb.LiteralMap(literals={name: one(value) for name, value in values.items()}).SerializeToString())


@contextlib.contextmanager
def engine(api: Api, kubeconfig: Path, address: str, folder: Path, admin: str) -> Any:
    """The engine, once it serves; its log is in `folder`."""
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(settings(kubeconfig, address, admin)))
    command = [program("flyte-propeller"), str(folder / "config.yaml")]

    def begin() -> subprocess.Popen[bytes]:
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(with_parent(command), stdout=log, stderr=log, cwd=folder)

    made = Engine(api, folder, begin)
    try:
        _await(made)
        yield made
    finally:
        made.stop()


def _await(made: Engine, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and made.process.poll() is None:
        with contextlib.suppress(ApiError):
            made.api.get(WORKFLOWS)
            return
        time.sleep(0.1)
    raise AssertionError(f"the engine does not start ({made.process.poll()}):\n{made.why('')}")
