"""What a task's pod looks like once flytekit has serialised it."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from flytekit import Resources, task
from flytekit.configuration import Image, ImageConfig, SerializationSettings

from lehr.infra.pod.pod_request import PodRequest
from lehr.infra.pod.pod_template import METRICS_ANNOTATIONS
from lehr.tasks.pods import pod_template

SECRETS = ("AWS", "SECRET", "KEY", "TOKEN", "PASSWORD")


def serialised(gpus: int) -> dict:
    asked = Resources(cpu="8", mem="32Gi", gpu=str(gpus)) if gpus else Resources(cpu="2")
    keys = {"AWS_SECRET_ACCESS_KEY": "x"}

    @task(pod_template=pod_template(), container_image="lehr:1", environment=keys, requests=asked, limits=asked)
    def train() -> None: ...

    images = ImageConfig(default_image=Image("default", "lehr", "1"))
    pod = train.get_k8s_pod(SerializationSettings(image_config=images, project="p", domain="d", version="v"))
    assert pod is not None
    assert pod.metadata.labels == {"lehr.dev/preflight": "true"}
    assert pod.metadata.annotations == METRICS_ANNOTATIONS
    return pod.pod_spec


def test_task_carries_preflight_then_gate_before_its_own_container() -> None:
    spec = serialised(gpus=8)
    preflight, gate = spec["initContainers"]
    (primary,) = spec["containers"]
    assert preflight["command"][-1] == "lehr.infra.pod.probes"
    assert gate["command"][-1] == "lehr.infra.pod.gate"
    assert not primary.get("command") and primary["args"][:4] == [
        "python",
        "-m",
        "lehr.infra.pod.supervisor",
        "pyflyte-execute",
    ]
    assert (preflight["image"], gate["image"], primary["image"]) == ("lehr:1", "lehr:1", "lehr:1")
    assert preflight["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert "nvidia.com/gpu" not in gate["resources"]["limits"]
    assert {"name": "LEHR_EXPECTED_GPUS", "value": "8"} in preflight["env"]
    shared = [next(m for m in c["volumeMounts"] if m["name"] == "lehr") for c in (preflight, gate)]
    assert [m.get("readOnly", False) for m in shared] == [False, True]
    mounted = {m["name"] for c in (preflight, gate, primary) for m in c["volumeMounts"]}
    assert mounted <= {v["name"] for v in spec["volumes"]}


def test_pod_has_no_token_no_root_nothing_writable_and_no_keys_before_the_task() -> None:
    spec = serialised(gpus=0)
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all("hostPath" not in v for v in spec["volumes"])
    for container in (*spec["initContainers"], *spec["containers"]):
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"]["drop"] == ["ALL"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    names = [e["name"] for c in spec["initContainers"] for e in c["env"]]
    assert not [n for n in names if any(word in n for word in SECRETS)]
    assert any(e["name"] == "AWS_SECRET_ACCESS_KEY" for e in spec["containers"][0]["env"])


def test_templates_are_fresh() -> None:
    one = pod_template()
    spec = one.pod_spec
    spec.containers[0].name = "changed"
    assert one.pod_spec.containers[0].name == "primary"
    other = copy.deepcopy(one)
    assert other.pod_spec is other.pod_spec, "flytekit works on one that stays"
    assert one.version_hash() == pod_template().version_hash() != pod_template(PodRequest(checked=False)).version_hash()
