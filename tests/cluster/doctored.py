"""A cluster as it should be, for `lehr doctor`, in namespaces apart from the other tests', and ways to break it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from lehr import __version__
from lehr.infra.doctor.place import Place
from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import NODES, Api, Object
from lehr.infra.kube.transport import Reply, Request, Stream, Transport
from tests.cluster.chart import CHART, render
from tests.cluster.objects import create, make_node

TRAINS, SYSTEM, FLYTE = "doctor-training", "doctor-system", "doctor-flyte"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"


def stamp(ago: float = 0.0) -> str:
    return datetime.fromtimestamp(time.time() - ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def leads(ago: float = 0.0, holder: str = "pod-1") -> Object:
    return {"holderIdentity": holder, "renewTime": stamp(ago), "leaseDurationSeconds": 15}


def flyte_config(files: dict[str, Any]) -> Object:
    data = {name: text if isinstance(text, str) else yaml.safe_dump(text) for name, text in files.items()}
    meta = {"name": "flyte-config", "namespace": FLYTE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def flyte_files() -> dict[str, Any]:
    text = (CHART / "files/flyte/flyte-binary.yaml").read_text(encoding="utf-8")
    return {"000-core.yaml": {"propeller": {}}, "100-inline-config.yaml": yaml.safe_load(text)["configuration"]["inline"]}


@contextmanager
def cluster_of(admin: Api) -> Iterator[Place]:
    """The chart's objects that a doctor reads, in namespaces of its own, a controller that leads, a Flyte as it should be."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name, labels in ((TRAINS, {NAMES.managed_label: "true", **level}), (SYSTEM, level), (FLYTE, {})):
        create(admin, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    values = {"training": {"driver": {"create": True}, "namespaces": [{"name": TRAINS, "create": False}]}}
    for item in render(values):
        if item["kind"] in ("ServiceAccount", "Role", "RoleBinding") and item["metadata"]["namespace"] == TRAINS:
            create(admin, item)
        if item["kind"] == "PodTemplate":
            admin.create(f"/api/v1/namespaces/{TRAINS}/podtemplates", item)
        if item["kind"] == "Lease":
            create(admin, {**item, "metadata": {**item["metadata"], "namespace": SYSTEM}, "spec": leads()})
    create(admin, flyte_config(flyte_files()))
    make_node(admin, "doctor-gpu", "doctor")
    yield Place(admin, TRAINS, __version__, SYSTEM, FLYTE)
    for name in (TRAINS, SYSTEM, FLYTE):
        remove(admin, f"/api/v1/namespaces/{name}")
    remove(admin, f"{NODES}/doctor-gpu")


def remove(api: Api, path: str) -> Object:
    found = api.get(path)
    api.delete(path, found["metadata"]["uid"])
    found["metadata"] = {key: found["metadata"][key] for key in ("name", "namespace", "labels") if key in found["metadata"]}
    return found


@contextmanager
def without(api: Api, folder: str, name: str) -> Iterator[None]:
    """An object is not there for a while."""
    item = remove(api, f"{folder}/{name}")
    try:
        yield
    finally:
        api.create(folder, item)


class Lacking:
    """The server as somebody meets it who is answered `status` at a path."""

    def __init__(self, under: Transport, path: str, status: int) -> None:
        self._under, self._path, self._status = under, path, status

    def send(self, request: Request) -> Reply:
        if request.path.startswith(self._path):
            body = {"reason": "Lacking", "message": f"{request.path}: not for you"}
            return Reply(self._status, {}, json.dumps(body).encode())
        return self._under.send(request)

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        return self._under.open(request)


def lacking(place: Place, path: str, status: int = 404) -> Place:
    return replace(place, api=Api(Lacking(place.api._transport, path, status)))
