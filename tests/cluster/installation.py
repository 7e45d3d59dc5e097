"""A cluster of its own for installations of the chart: every controller that they need, and pods that run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Api, Object
from lehr.infra.kube.transport import connect
from tests.cluster.chart import CHART, MONITORING, RELEASE, Done, helm
from tests.cluster.conftest import OTHER, TRAINING, World, eventually
from tests.cluster.containers import Containers, Kubelet
from tests.cluster.objects import create, make_node, namespace
from tests.cluster.plane import ADMIN, start
from tests.cluster.provide import find

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "disruption-controller",
    "resourcequota-controller",
    "persistentvolume-binder-controller",
    "serviceaccount-token-controller",
)
SYSTEM = NAMES.namespace
WAIT_SECONDS = 120
# Kept short so that tests are; `privileged` because the stand-ins for trainers lock nothing.
QUICK: Object = {
    "image": {"repository": "lehr", "tag": "test"},
    "controller": {
        "leaseSeconds": 3,
        "renewSeconds": 0.5,
        "resyncSeconds": 1,
        "relistSeconds": 5,
        "nodeSelector": {"test/pool": "system"},
    },
    "training": {"namespaces": [{"name": TRAINING, "podSecurity": "privileged", "keep": False}]},
    "nodeReports": {"crd": {"keep": False}},
}


@dataclass
class Home:
    """One control plane, the pods that run there, and Helm and kubectl as their administrator."""

    world: World
    kubelet: Kubelet
    containers: Containers
    kubeconfig: Path

    def helm(self, *arguments: str, values: Object | None = None, name: str = "helm", check: bool = True) -> Done:
        """One call of Helm; with `check` it must end well."""
        given = ["--values", "-"] if values is not None else []
        command = [helm(name), *arguments, *given, "--kubeconfig", str(self.kubeconfig), "-n", SYSTEM]
        text = json.dumps(values) if values is not None else None
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0 or not check, f"{done.stdout}{done.stderr}\n{self.why()}"
        return done

    def install(self, values: Object | None = None, name: str = "helm", chart: Path = CHART) -> Done:
        wait = ["--wait", "--timeout", f"{WAIT_SECONDS}s"]
        return self.helm("install", RELEASE, str(chart), *wait, values=values or QUICK, name=name)

    def upgrade(self, values: Object | None = None, name: str = "helm", chart: Path = CHART) -> Done:
        wait = ["--wait", "--timeout", f"{WAIT_SECONDS}s"]
        return self.helm("upgrade", RELEASE, str(chart), *wait, values=values or QUICK, name=name)

    def uninstall(self, name: str = "helm") -> None:
        self.helm("uninstall", RELEASE, "--wait", "--timeout", f"{WAIT_SECONDS}s", name=name)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        kubectl = find("kubectl")
        assert kubectl is not None, "run `make control-plane` first"
        command = [str(kubectl), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def everything(self) -> set[tuple[str, ...]]:
        """(kind, namespace, name) of every object, but those that clusters make by themselves again and again."""
        types = [t for t in self.kubectl("api-resources", "--verbs=list", "-o", "name").split() if not t.startswith("events")]
        columns = "custom-columns=KIND:.kind,PLACE:.metadata.namespace,NAME:.metadata.name"
        listed = self.kubectl("get", ",".join(types), "-A", "-o", columns, "--no-headers", "--ignore-not-found")
        rows = {tuple(line.split()) for line in listed.splitlines()}
        return {row for row in rows if row[0] not in ("Node", "Lease") or row[1] == SYSTEM}

    def lease(self) -> Object:
        return self.world.admin.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lehr-controller")

    def why(self) -> str:
        """What the stand-ins say when something did not come about."""
        logs = [f"{c.name}: {c.log[-1500:]}" for c in list(self.containers.running.values())]
        return "\n".join([*self.containers.errors, *logs, *(f"{n}: {t[-1500:]}" for n, t in self.containers.logs.items())])


@contextmanager
def home(folder: Path, kind: type[Containers] = Containers) -> Iterator[Home]:
    """A control plane without anything of ours but the namespace and a node for what is no training; `kind` runs the pods."""
    plane = start(folder / "plane", CONTROLLERS)
    kubeconfig = plane.kubeconfig("admin", ADMIN)
    world = World(plane, Api(connect(kubeconfig)), Path())
    programs = folder / "programs"
    programs.mkdir()
    programs.chmod(0o755)  # it is not root who runs them
    containers = kind(Api(world.transport(kubeconfig)), plane, folder / "containers", programs)
    kubelet = Kubelet(Api(world.transport(kubeconfig)), containers=containers)
    try:
        kubelet.start()
        level = {"pod-security.kubernetes.io/enforce": "restricted"}
        create(world.admin, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": level}})
        create(world.admin, namespace(OTHER, managed=False))
        make_node(world.admin, "system", "system", managed=False, gpus=0)
        for name in (SYSTEM, OTHER, "default"):
            eventually(
                lambda name=name: world.admin.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), "accounts exist"
            )
        yield Home(world, kubelet, containers, kubeconfig)
    finally:
        containers.stop()
        kubelet.stop()
        world.close()
        plane.stop()


def monitoring_types() -> list[Object]:
    """Stand-ins for the Prometheus operator's types, as strict as the objects that we make."""
    text, number = {"type": "string"}, {"type": "integer"}
    any_map = {"type": "object", "additionalProperties": text}

    def listed(of: Object) -> Object:
        return {"type": "array", "items": of}

    def of(*texts: str, **others: Object) -> Object:
        return {"type": "object", "properties": {**dict.fromkeys(texts, text), **others}}

    selector = of(matchLabels=any_map, matchExpressions=listed(of("key", "operator", values=listed(text))))
    relabelings = listed(of("regex", "action", "targetLabel", "replacement", sourceLabels=listed(text)))
    authorization = of(credentials=of("name", "key"))
    endpoints = listed(of("port", "interval", "scrapeTimeout", relabelings=relabelings, authorization=authorization))
    rule = of("alert", "record", "expr", "for", "keep_firing_for", labels=any_map, annotations=any_map) | {"required": ["expr"]}
    group = of("name", rules=listed(rule)) | {"required": ["name"]}
    monitor = {"selector": selector, "sampleLimit": number}
    specs: dict[str, Any] = {
        "PodMonitor": {**monitor, "namespaceSelector": of(matchNames=listed(text)), "podMetricsEndpoints": endpoints},
        "ServiceMonitor": {**monitor, "endpoints": endpoints},
        "PrometheusRule": {"groups": listed(group)},
    }
    return [_type(api.rpartition("/")[2], specs) for api in MONITORING]


def _type(kind: str, specs: dict[str, Any]) -> Object:
    group, plural = "monitoring.coreos.com", f"{kind.lower()}s"
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": specs[kind]}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    meta = {"name": f"{plural}.{group}"}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec}


def settled(home: Home) -> None:
    """Namespaces that are going have gone."""

    def all_active() -> bool:
        items = home.world.admin.items("/api/v1/namespaces")
        return all(item["status"]["phase"] == "Active" for item in items)

    eventually(all_active, "namespaces are gone")
    time.sleep(0.2)


def applied(home: Home, objects: list[Object]) -> None:
    home.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(objects))
