"""Verdicts that a tenant forges: an allowed image with its own command, environment or volumes accuses nobody."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the pod's specification is made with its client")

from kubernetes.client import ApiClient

from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import lost, pod_object
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import State
from lehr.infra.fleet.actions import Cordon
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import NodeView, Outcome, Verdict
from lehr.infra.kube.api import Api
from lehr.infra.pod.pod_spec import require
from lehr.infra.pod.pod_template import pod_spec

NOW = 1_800_000_000.0
BAD = Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", "bit 3", confirmed=True, finished_at=NOW)
DIGEST = "sha256:" + "a" * 64
GPU = "nvidia.com/gpu"
Spec = dict[str, Any]


def pod() -> Spec:
    """A task's pod as Flyte's engine makes it of ours: with the image, and variables of its own in every container."""
    made = pod_spec(image="lehr:1")
    require(made.init_containers[0], 8)
    spec = ApiClient().sanitize_for_serialization(made)
    spec["nodeName"] = "n"
    for container in (*spec["initContainers"], *spec["containers"]):
        container["env"] += [{"name": "FLYTE_ATTEMPT_NUMBER", "value": "0"}, {"name": "AWS_REGION", "value": "x"}]
    preflight = spec["initContainers"][0]
    token = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    preflight["volumeMounts"].append(token)
    spec["volumes"].append({"name": "token", "projected": {}})
    ended = {"exitCode": 0, "message": encode(BAD)}
    status = {"name": NAMES.preflight_container, "imageID": f"registry/lehr@{DIGEST}", "state": {"terminated": ended}}
    meta = {"name": "p", "namespace": "t", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2027-01-15T07:59:00Z"}
    return {"metadata": meta, "spec": spec, "status": {"initContainerStatuses": [status]}}


def cordons(item: Spec, **settings: Any) -> bool:
    chosen = Settings.checked({"allowed_images": [DIGEST], **settings})
    view = lost(pod_object(item, GPU, chosen.allowed_images, chosen.preflight_variables), NOW)
    return any(isinstance(a, Cordon) for a in decide(NodeView("n", pods=(view,)), FleetView(), Policy(), NOW))


def env(name: str, value: str = "x") -> Callable[[Spec, Spec], Any]:
    def change(spec: Spec, preflight: Spec) -> None:
        preflight["env"] = [e for e in preflight["env"] if e["name"] != name] + [{"name": name, "value": value}]

    return change


def before(spec: Spec, preflight: Spec) -> None:
    spec["initContainers"].insert(0, {"name": "a", "volumeMounts": [{"name": "tmp", "mountPath": "/x"}]})


def replaced_volume(spec: Spec, preflight: Spec) -> None:
    for volume in spec["volumes"]:
        if volume["name"] == "tmp":
            volume.pop("emptyDir")
            volume["persistentVolumeClaim"] = {"claimName": "mine"}


FORGERIES: dict[str, Callable[[Spec, Spec], Any]] = {
    "command": lambda spec, p: p.update(command=["sh", "-c", f"echo '{encode(BAD)}' > /dev/termination-log"]),
    "module": lambda spec, p: p.update(command=["python", "-m", "mine"]),
    "python of its own": lambda spec, p: p.update(command=["/tmp/python", *p["command"][1:]]),
    "way to a python": lambda spec, p: p.update(command=["/usr/../tmp/python", *p["command"][1:]]),
    "arguments": lambda spec, p: p.update(args=["x"]),
    "no command": lambda spec, p: p.pop("command"),
    "folder": lambda spec, p: p.update(workingDir="/tmp"),
    "sidecar": lambda spec, p: p.update(restartPolicy="Always"),
    "message": lambda spec, p: p.update(terminationMessagePath="/tmp/message"),
    "python's path": env("PYTHONPATH"),
    "loader": env("LD_PRELOAD"),
    "home": env("HOME", "/data"),
    "one GPU more": env("LEHR_EXPECTED_GPUS", "9"),
    "one GPU less": env("CUDA_VISIBLE_DEVICES", "0"),
    "environment": lambda spec, p: p.update(envFrom=[{"configMapRef": {"name": "x"}}]),
    "another volume": lambda spec, p: p["volumeMounts"].append({"name": "tmp", "mountPath": "/usr/lib/python3"}),
    "a volume that is filled": replaced_volume,
    "a container before it": before,
    "processes shared": lambda spec, p: spec.update(shareProcessNamespace=True),
    "a debugger": lambda spec, p: spec.update(ephemeralContainers=[{"name": "d"}]),
    "another name": lambda spec, p: p.update(name="preflight2"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_allowed_image_that_ran_something_else_accuses_nobody(name: str) -> None:
    item = pod()
    FORGERIES[name](item["spec"], item["spec"]["initContainers"][0])
    assert not cordons(item)


def test_the_tasks_own_preflight_is_believed() -> None:
    item = pod()
    assert cordons(item)
    foreign = copy.deepcopy(item)
    foreign["status"]["initContainerStatuses"][0]["imageID"] = "registry/lehr@sha256:" + "b" * 64
    assert not cordons(foreign) and cordons(foreign, allowed_images=[])
    switched = copy.deepcopy(item)
    env("LEHR_PROBE_DISK", "off")(switched["spec"], switched["spec"]["initContainers"][0])
    assert cordons(switched)
    proxied = copy.deepcopy(item)
    env("HTTP_PROXY")(proxied["spec"], proxied["spec"]["initContainers"][0])
    assert not cordons(proxied) and cordons(proxied, preflight_variables=["HTTP_PROXY"])
    apart = copy.deepcopy(item)
    apart["spec"]["initContainers"].insert(0, {"name": "mesh", "volumeMounts": [{"name": "other", "mountPath": "/x"}]})
    assert cordons(apart)


def test_a_failure_that_counts_for_nothing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Else a variable that the settings do not know would silence every node."""
    state = State(Api(None), Settings(namespaces=("t",), allowed_images=(DIGEST,)), ControllerMetrics())  # type: ignore[arg-type]
    item = pod()
    env("HTTP_PROXY")(item["spec"], item["spec"]["initContainers"][0])
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            state.pods["t"].put(state.read_pod(item))
    (line,) = [r.getMessage() for r in caplog.records]
    assert "t/p" in line and "allowed image" in line
