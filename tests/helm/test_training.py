"""Training namespaces, what Flyte merges into tasks' pods, MLflow, and who may talk to whom."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lehr.infra.controller.preflight import FOREIGN
from lehr.infra.pod.probes.runner import checks
from tests.cluster.chart import CHART, render, run
from tests.helm.values import read, schema

pytestmark = pytest.mark.cluster
Object = dict[str, Any]
MLFLOW = {"enabled": True, "image": {"repository": "example.org/mlflow"}}


def one(objects: list[Object], kind: str, name: str, namespace: str = "") -> Object:
    (found,) = (
        item
        for item in objects
        if (item["kind"], item["metadata"]["name"]) == (kind, name)
        and (not namespace or item["metadata"]["namespace"] == namespace)
    )
    return found


def environment(container: Object) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container.get("env", [])}


def test_a_namespace_is_managed_restricted_and_kept() -> None:
    made = one(render(), "Namespace", "training")["metadata"]
    assert made["labels"]["lehr.dev/managed"] == "true"
    assert made["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_namespace_that_is_there_is_left_alone() -> None:
    objects = render({"training": {"namespaces": [{"name": "lehr-production", "create": False}]}})
    assert not [item for item in objects if item["kind"] == "Namespace"]
    inside = {item["kind"] for item in objects if item["metadata"].get("namespace") == "lehr-production"}
    assert inside == {"Role", "RoleBinding", "ServiceAccount", "NetworkPolicy", "PodTemplate"}


def test_no_namespace_at_all_is_a_controller_that_deletes_no_pod() -> None:
    objects = render({"training": {"namespaces": []}})
    settings = yaml.safe_load(one(objects, "ConfigMap", "lehr-controller")["data"]["settings.yaml"])
    assert settings["namespaces"] == [] and not [i for i in objects if i["metadata"].get("namespace") == "training"]


def test_nothing_is_kept_if_the_values_say_so() -> None:
    values = {
        "nodeReports": {"crd": {"keep": False}},
        "training": {"namespaces": [{"name": "training", "keep": False}]},
        "mlflow": {**MLFLOW, "persistence": {"keep": False}},
    }
    assert not [item for item in render(values) if "helm.sh/resource-policy" in item["metadata"].get("annotations", {})]
    kept = {i["kind"] for i in render({"mlflow": MLFLOW}) if "helm.sh/resource-policy" in i["metadata"].get("annotations", {})}
    assert kept == {"CustomResourceDefinition", "Namespace", "PersistentVolumeClaim"}


def test_keys_are_in_the_main_container_alone() -> None:
    """A main container gets keys, addresses and plain variables; init containers no more than which checks are off."""
    objects = render(read(CHART / "ci/everything-values.yaml"))
    spec = one(objects, "PodTemplate", "lehr-task", "training")["template"]["spec"]
    (primary,), (init,) = spec["containers"], spec["initContainers"]
    assert (primary["name"], init["name"]) == ("primary", "default-init")
    assert set(init) == {"name", "image", "env", "securityContext"}
    assert environment(init) == {"LEHR_PROBE_BANDWIDTH": "off"}
    assert primary["envFrom"] == [{"secretRef": {"name": "lehr-variables"}}]
    assert environment(primary) == {
        "AWS_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "https://store.example.org",
        "AWS_ACCESS_KEY_ID": {"secretKeyRef": {"name": "lehr-store", "key": "AWS_ACCESS_KEY_ID"}},
        "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "lehr-store", "key": "AWS_SECRET_ACCESS_KEY"}},
        "MLFLOW_TRACKING_URI": "http://lehr-mlflow.lehr-system.svc:5000",
        "MLFLOW_EXPERIMENT_NAME": "olmo",
    }
    assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] == "lehr-task"


def test_a_check_that_is_off_is_off_on_both_sides() -> None:
    """In the pods, else the gate holds them, and in the policy; and the preflight stays one whose verdict counts."""
    objects = render({"nodes": {"checksOff": ["bandwidth"], "policy": {"observe_only_checks": ["clock"]}}})
    settings = yaml.safe_load(one(objects, "ConfigMap", "lehr-controller")["data"]["settings.yaml"])
    assert set(settings["policy"]["observe_only_checks"]) == {"clock", "bandwidth"}
    (init,) = one(objects, "PodTemplate", "lehr-task")["template"]["spec"]["initContainers"]
    assert all(FOREIGN.fullmatch(name) for name in environment(init))
    assert schema()["properties"]["nodes"]["properties"]["checksOff"]["items"]["enum"] == [c.name for c in checks()]


def test_an_mlflow_elsewhere_is_used() -> None:
    objects = render({"mlflow": {"externalUrl": "https://mlflow.example.org"}})
    (primary,) = one(objects, "PodTemplate", "lehr-task")["template"]["spec"]["containers"]
    assert environment(primary)["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    assert not [item for item in objects if "mlflow" in item["metadata"]["name"]]


def _server(mlflow: Object) -> tuple[Object, Object]:
    objects = render({"mlflow": {**MLFLOW, **mlflow}})
    deployment = one(objects, "Deployment", "lehr-mlflow")["spec"]
    return deployment, deployment["template"]["spec"]


def test_mlflow_on_a_volume() -> None:
    deployment, spec = _server({})
    given = environment(spec["containers"][0])
    assert deployment["strategy"]["type"] == "Recreate" and {v["name"] for v in spec["volumes"]} == {"tmp", "data"}
    assert given["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////mlflow/mlflow.db"
    assert given["MLFLOW_ARTIFACTS_DESTINATION"] == "/mlflow/artifacts"
    assert given["MLFLOW_DISABLE_TELEMETRY"] == "true" and given["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    hosts = given["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"lehr-mlflow.lehr-system.svc:5000", "lehr-mlflow.lehr-system.svc.cluster.local:5000"} <= set(hosts)
    assert not [host for host in hosts if host.startswith("*") or host.endswith(".*") or "svc*" in host]


def test_mlflow_on_a_database_and_an_object_store() -> None:
    deployment, spec = _server(
        {
            "replicas": 2,
            "database": {"existingSecret": "db", "key": "uri"},
            "artifacts": {"destination": "s3://b/m", "existingSecret": "s3"},
        }
    )
    given = environment(spec["containers"][0])
    assert deployment["strategy"]["type"] == "RollingUpdate" and {v["name"] for v in spec["volumes"]} == {"tmp"}
    assert given["MLFLOW_BACKEND_STORE_URI"] == {"secretKeyRef": {"name": "db", "key": "uri"}}
    assert given["AWS_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"}}


def test_who_may_talk_to_whom() -> None:
    objects = render({"mlflow": MLFLOW, "training": {"namespaces": [{"name": "a"}, {"name": "b"}]}})
    for place in ("a", "b"):
        deny = one(objects, "NetworkPolicy", "lehr-default-deny", place)["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        training = one(objects, "NetworkPolicy", "lehr-training", place)["spec"]
        assert {"from": [{"podSelector": {}}]} in training["ingress"] and {"to": [{"podSelector": {}}]} in training["egress"]
        (store,) = (r for r in training["egress"] if "ipBlock" in r["to"][0])
        assert store["to"][0]["ipBlock"] == {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}
        assert store["to"][1]["ipBlock"] == {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}
        assert [p["port"] for p in store["ports"]] == [443]
    mlflow = one(objects, "NetworkPolicy", "lehr-mlflow")["spec"]["ingress"][0]
    (namespaces,) = mlflow["from"][0]["namespaceSelector"]["matchExpressions"]
    assert namespaces["values"] == ["a", "b"]
    tests = one(objects, "NetworkPolicy", "lehr-node-tests")["spec"]
    pair = {"podSelector": {"matchLabels": {"lehr.dev/suite": "pair"}}}
    assert tests["ingress"] == [{"from": [pair]}] and tests["egress"] == [{"to": [pair]}]
    controller = one(objects, "NetworkPolicy", "lehr-controller")["spec"]
    assert [p["port"] for p in controller["ingress"][0]["ports"]] == ["metrics"]
    assert not any("podSelector" in to for r in controller["egress"] for to in r["to"] if "namespaceSelector" not in to)


def test_a_changed_setting_restarts_the_controller_and_nothing_else_does() -> None:
    def pod(**values: Any) -> Object:
        return one(render(values), "Deployment", "lehr-controller")["spec"]["template"]

    before = pod()
    assert pod(controller={"resyncSeconds": 30}) != before
    assert pod(monitoring={"podMonitor": {"interval": "60s"}}) == before
    assert before["metadata"]["annotations"]["lehr.dev/settings-checksum"]


def test_notes_say_what_was_not_looked_at() -> None:
    done = run("install", "lehr", str(CHART), "-n", "lehr-system", "--dry-run=client")
    notes = done.stdout.partition("NOTES:")[2]
    for said in ("helm test lehr", "lehr.dev/managed=true", "lehr nodes list", "could not be checked", "PodMonitor"):
        assert said in notes, notes
    assert "lehr-submitter" not in notes, "nobody submits without a driver"
    done = run("install", "lehr", str(CHART), "--dry-run=client", "--set", "training.driver.create=true")
    assert "rolebinding lehr-submitters -n training --clusterrole=lehr-submitter" in done.stdout


def test_labels_of_a_user_never_take_ours_away() -> None:
    """A key stands once in each object, whoever says it; what selectors and policies look for stays."""
    theirs = {"app.kubernetes.io/name": "x", "lehr.dev/managed": "false", "app.kubernetes.io/component": "x"}
    values = {
        "commonLabels": theirs,
        "controller": {"podLabels": theirs},
        "training": {"namespaces": [{"name": "a", "labels": theirs}]},
    }
    objects = render(values)
    assert one(objects, "Namespace", "a")["metadata"]["labels"]["lehr.dev/managed"] == "true"
    for item in objects:
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "lehr", item["metadata"]
    pod = one(objects, "Deployment", "lehr-controller")["spec"]
    assert pod["selector"]["matchLabels"].items() <= pod["template"]["metadata"]["labels"].items()
