"""What the rendered objects say of each other and of the pods' security: what no schema of Kubernetes checks."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lehr.infra.controller.installed import needed
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.pod.pod_template import METRICS_PORT_NAME
from tests.cluster.chart import CHART, MONITORING, render
from tests.helm.values import merged, read

pytestmark = pytest.mark.cluster
Object = dict[str, Any]
SERVING_PORT, SERVING_LABEL = "lehr-serve", f"{NAMES.prefix}/serve"  # of pods that people make: docs/serving.md
CASES = ("default", "everything", "small", "flyte", "database")
# A second kind of volumes and names: a database, artifacts on the volume, and a release of another name.
DATABASE = {"mlflow": {"replicas": 2, "database": {"existingSecret": "db"}, "artifacts": {"destination": ""},
                       "persistence": {"existingClaim": "there", "accessMode": "ReadWriteMany"}},
            "fullnameOverride": "other", "controller": {"serviceAccount": {"name": "renamed"}}}  # fmt: skip


def values(case: str) -> Object:
    if case == "default":
        return {}
    everything = read(CHART / "ci/everything-values.yaml")
    return merged(everything, DATABASE) if case == "database" else read(CHART / f"ci/{case}-values.yaml")


@pytest.fixture(scope="module", params=CASES)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(values(request.param), MONITORING)


def of(objects: list[Object], *kinds: str) -> list[Object]:
    return [item for item in objects if item["kind"] in kinds]


def place(item: Object) -> str:
    return item["metadata"].get("namespace", "")


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(name, metadata, spec) of each pod and pod template of a workload."""
    for item in objects:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["metadata"], item["spec"]
        if item["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
            template = item["spec"]["template"]
            yield item["metadata"]["name"], {**template["metadata"], "namespace": place(item)}, template["spec"]


def test_names_are_unique(objects: list[Object]) -> None:
    names = [(item["kind"], place(item), item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, _, name in names)


def test_every_object_says_whose_it_is(objects: list[Object]) -> None:
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "lehr" and labels["app.kubernetes.io/part-of"] == "lehr", item


def test_every_pod_is_restricted(objects: list[Object]) -> None:
    """Pod Security level `restricted`, and more: a root that cannot be written, requests, an image that is named exactly."""
    for name, _, spec in pods(objects):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == 1000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["automountServiceAccountToken"] in (True, False) and spec["enableServiceLinks"] is False, name
        assert all(set(v) & {"configMap", "secret", "emptyDir", "persistentVolumeClaim"} for v in spec.get("volumes", [])), name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            locked = container["securityContext"]
            assert locked["allowPrivilegeEscalation"] is False and locked["readOnlyRootFilesystem"] is True, name
            assert locked["capabilities"] == {"drop": ["ALL"]} and "privileged" not in locked, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert re.search(r"(:[^:/]+|@sha256:[0-9a-f]{64})$", container["image"]), container["image"]
            assert not container["image"].endswith(":latest")


def test_only_who_asks_the_api_server_has_a_token(objects: list[Object]) -> None:
    for name, meta, spec in pods(objects):
        component = meta["labels"]["app.kubernetes.io/component"]
        asks = component == "controller" or name.endswith(("permissions", "leader"))
        assert spec["automountServiceAccountToken"] is asks, name
    assert all(item["automountServiceAccountToken"] is False for item in of(objects, "ServiceAccount"))


def test_replicas_are_spread(objects: list[Object]) -> None:
    (controller,) = (item for item in of(objects, "Deployment") if item["metadata"]["name"].endswith("controller"))
    spec = controller["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    wanted = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert wanted == controller["spec"]["selector"]["matchLabels"]


def test_selectors_find_pods(objects: list[Object]) -> None:
    """Services, budgets, monitors and network policies of the release's namespace select a pod that is there."""
    known = [(meta["namespace"], meta["labels"]) for _, meta, _ in pods(objects)]
    services = [(place(item), item["metadata"]["labels"]) for item in of(objects, "Service")]
    for item in of(objects, "Service", "PodDisruptionBudget", "PodMonitor", "ServiceMonitor", "NetworkPolicy", "Deployment"):
        spec = item["spec"]
        selector = spec["selector"] if item["kind"] == "Service" else spec.get("selector", spec.get("podSelector"))
        selector = selector if item["kind"] == "Service" else selector.get("matchLabels")
        others = item["kind"] == "NetworkPolicy" and place(item) != NAMES.namespace
        if others or (selector is None and item["kind"] in ("NetworkPolicy", "PodMonitor")):
            continue  # the Jobs of the controller; all pods of a training namespace, or all of runs
        targets = services if item["kind"] == "ServiceMonitor" else known
        assert any(p == place(item) and selector.items() <= labels.items() for p, labels in targets), item["metadata"]


def test_a_deployments_selector_never_changes_with_a_version(objects: list[Object]) -> None:
    for item in of(objects, "Deployment"):
        assert not any("version" in key or "chart" in key for key in item["spec"]["selector"]["matchLabels"])


def test_ports_by_name_are_there(objects: list[Object]) -> None:
    by_component = {
        meta["labels"]["app.kubernetes.io/component"]: {p["name"] for c in spec["containers"] for p in c.get("ports", [])}
        for _, meta, spec in pods(objects)
    }
    for item in of(objects, "Service"):
        component = item["spec"]["selector"]["app.kubernetes.io/component"]
        assert {p["targetPort"] for p in item["spec"]["ports"]} <= by_component[component], item
    for item in of(objects, "PodMonitor"):
        ports = {METRICS_PORT_NAME} if "namespaceSelector" in item["spec"] else by_component["controller"]
        ports = ports if place(item) == NAMES.namespace else {SERVING_PORT}
        assert {e["port"] for e in item["spec"]["podMetricsEndpoints"]} <= ports
    for item in of(objects, "ServiceMonitor"):
        ports = {p["name"] for s in of(objects, "Service") for p in s["spec"]["ports"]}
        assert {e["port"] for e in item["spec"]["endpoints"]} <= ports
    for name, _, spec in pods(objects):
        for container in spec["containers"]:
            for probe in (container[key] for key in container if key.endswith("Probe")):
                assert probe["httpGet"]["port"] in {p["name"] for p in container["ports"]}, name
    for item in of(objects, "NetworkPolicy"):
        let_in = [port["port"] for rule in item["spec"].get("ingress", []) for port in rule.get("ports", [])]
        named = [port for port in let_in if isinstance(port, str)]
        component = item["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component", "")
        ports = by_component.get(component, set()) if place(item) == NAMES.namespace else {METRICS_PORT_NAME}
        assert set(named) <= ports, item["metadata"]


def test_what_is_referred_to_is_there(objects: list[Object]) -> None:
    there = {(item["kind"], place(item), item["metadata"]["name"]) for item in objects}
    for item in of(objects, "RoleBinding", "ClusterRoleBinding"):
        kind = item["roleRef"]["kind"]
        assert (kind, place(item) if kind == "Role" else "", item["roleRef"]["name"]) in there, item["metadata"]
        for subject in item["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in there, item["metadata"]
    for name, meta, spec in pods(objects):
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", meta["namespace"], spec["serviceAccountName"]) in there, name
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", meta["namespace"], volume["configMap"]["name"]) in there, name
            claim = volume.get("persistentVolumeClaim", {}).get("claimName", "there")
            assert claim == "there" or ("PersistentVolumeClaim", meta["namespace"], claim) in there, name
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        assert mounted == {v["name"] for v in spec.get("volumes", [])}, name
    for item in of(objects, "ValidatingAdmissionPolicyBinding"):
        assert ("ValidatingAdmissionPolicy", "", item["spec"]["policyName"]) in there
    for item in of(objects, "PodTemplate"):
        spec = item["template"]["spec"]
        assert ("ServiceAccount", place(item), spec["serviceAccountName"]) in there
        assert "priorityClassName" not in spec or ("PriorityClass", "", spec["priorityClassName"]) in there


def test_no_role_has_a_wildcard(objects: list[Object]) -> None:
    for item in of(objects, "Role", "ClusterRole"):
        for rule in item["rules"]:
            assert not any("*" in value for key in ("verbs", "resources", "apiGroups") for value in rule[key]), item["metadata"]


def test_every_policy_is_bound_and_speaks_of_the_account(objects: list[Object]) -> None:
    policies, bindings = of(objects, "ValidatingAdmissionPolicy"), of(objects, "ValidatingAdmissionPolicyBinding")
    assert {p["metadata"]["name"] for p in policies} == {b["spec"]["policyName"] for b in bindings} and len(policies) == 7
    (controller,) = (item for item in of(objects, "Deployment") if item["metadata"]["name"].endswith("controller"))
    account = controller["spec"]["template"]["spec"]["serviceAccountName"]
    for policy in policies:
        spoken = re.findall(r"system:serviceaccount:([^']+)'", str(policy))
        assert spoken == [f"{NAMES.namespace}:{account}"] or policy["metadata"]["name"].endswith("reports"), policy["metadata"]
        assert policy["spec"]["failurePolicy"] == "Fail"


def test_names_of_labels_are_the_codes(objects: list[Object]) -> None:
    text = yaml.safe_dump(objects)
    used = set(re.findall(r"lehr\.dev/[a-z-]+", text)) - {"lehr.dev/settings-checksum", "lehr.dev/v"}
    known = {getattr(NAMES, name) for name in dir(NAMES) if name.endswith(("label", "annotation", "taint"))}
    assert used <= known | {f"{NAMES.prefix}/suite", SERVING_LABEL}, used - known


def test_the_settings_are_taken_by_the_controller(objects: list[Object]) -> None:
    """No key of them is unknown to it, and names agree with the objects."""
    (config,) = (item for item in of(objects, "ConfigMap") if "settings.yaml" in item["data"])
    settings = Settings.checked(yaml.safe_load(config["data"]["settings.yaml"]))
    assert settings.system_namespace == place(config) == NAMES.namespace
    assert (settings.lease, settings.metrics_address) == (of(objects, "Lease")[0]["metadata"]["name"], "0.0.0.0")
    roles = {place(item) for item in of(objects, "Role")} - {NAMES.namespace, "default"}
    assert set(settings.namespaces) == roles
    (container,) = next(spec["containers"] for name, _, spec in pods(objects) if name.endswith("-controller"))
    assert settings.image == container["image"]
    assert settings.metrics_port == container["ports"][0]["containerPort"]
    if settings.webhook_url_file:
        (mount,) = (m for m in container["volumeMounts"] if m["name"] == "webhook")
        assert settings.webhook_url_file.startswith(f"{mount['mountPath']}/")


MUTANTS = {
    "a Service's port": (test_ports_by_name_are_there, "Service", ("spec", "ports", 0, "targetPort"), "metrcis"),
    "a monitor's port": (test_ports_by_name_are_there, "PodMonitor", ("spec", "podMetricsEndpoints", 0, "port"), "http"),
    "a binding's role": (test_what_is_referred_to_is_there, "RoleBinding", ("roleRef", "name"), "lehr-controler"),
    "a binding's account": (test_what_is_referred_to_is_there, "RoleBinding", ("subjects", 0, "name"), "default"),
    "a budget's pods": (test_selectors_find_pods, "PodDisruptionBudget", ("spec", "selector", "matchLabels", "x"), "y"),
    "a policy's pods": (test_selectors_find_pods, "NetworkPolicy", ("spec", "podSelector", "matchLabels", "x"), "y"),
    "a role's verb": (test_no_role_has_a_wildcard, "Role", ("rules", 0, "verbs", 0), "*"),
    "a pod's root": (test_every_pod_is_restricted, "Pod", ("spec", "securityContext", "runAsUser"), 0),
    "a pod's network": (test_every_pod_is_restricted, "Pod", ("spec", "hostNetwork"), True),
    "an unbound policy": (
        test_every_policy_is_bound_and_speaks_of_the_account,
        "ValidatingAdmissionPolicyBinding",
        ("spec", "policyName"),
        "x",
    ),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_these_checks_catch_a_mistake(what: str) -> None:
    check, kind, path, value = MUTANTS[what]
    good = render(values("everything"), MONITORING)
    check(good)
    bad = copy.deepcopy(good)
    at: Any = next(item for item in bad if item["kind"] == kind)
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises((AssertionError, KeyError)):
        check(bad)


def test_rights_are_what_helm_test_asks_for() -> None:
    """No more and no less than the list in infra/controller/installed.py."""
    objects = render({"training": {"namespaces": [{"name": "a"}, {"name": "b"}]}})
    (config,) = (item for item in of(objects, "ConfigMap") if "settings.yaml" in item["data"])
    given = set()
    for item in of(objects, "Role", "ClusterRole"):
        if item["metadata"]["name"].startswith("lehr-controller"):
            for rule in item["rules"]:
                name = ".".join(part for part in (rule["resources"][0], rule["apiGroups"][0]) if part)
                name += "".join(f"/{lease}" for lease in rule.get("resourceNames", []))
                given |= {(verb, name, place(item)) for verb in rule["verbs"]}
                assert len(rule["resources"]) == len(rule["apiGroups"]) == 1
    assert given == set(needed(Settings.checked(yaml.safe_load(config["data"]["settings.yaml"]))))
