"""The chart on a real API server: installed, tested, upgraded, rolled back and uninstalled by Helm itself, its pods running."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient

from lehr.infra.controller.preflight import is_ours
from lehr.infra.kube.api import Object
from lehr.infra.pod.pod_template import pod_spec
from tests.cluster.chart import CHART, MONITORING, render, run
from tests.cluster.conftest import OTHER, TRAINING
from tests.cluster.flyte_merge import merged_pod
from tests.cluster.installation import QUICK, SYSTEM, Home, applied, home, monitoring_types, settled
from tests.cluster.objects import make_node
from tests.cluster.provide import find
from tests.helm.values import merged, read

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodereports.lehr.dev"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with home(tmp_path_factory.mktemp("chart")) as made:
        yield made


@pytest.fixture
def before(place: Home) -> Iterator[set[tuple[str, ...]]]:
    """What is there before an installation; afterwards it must be the same, whatever happened."""
    there = place.everything()
    yield there
    if "lehr" in place.helm("list", "-q").stdout.split():
        place.uninstall()
    settled(place)


def next_version(folder: Path) -> Path:
    """The chart as it will be one day: NodeReports have one more column and one more field."""
    chart = Path(shutil.copytree(CHART, folder / "lehr"))
    path = chart / "templates/nodereport.yaml"
    text = path.read_text()
    column = "        - {name: Severity, type: string, jsonPath: .spec.severity}\n"
    text = text.replace("        - {name: Age,", f"{column}        - {{name: Age,")
    text = text.replace("                by: {", "                severity: {type: string}\n                by: {")
    path.write_text(text)
    return chart


def columns(place: Home) -> list[str]:
    found = place.world.admin.get(CRD)["spec"]["versions"][0]
    return [c["name"] for c in found["additionalPrinterColumns"]] + sorted(
        found["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    )


def passes_its_tests(place: Home, name: str = "helm", *pods: str) -> None:
    """`helm test` passes, and each pod said why."""
    place.helm("test", "lehr", "--timeout", "120s", name=name)
    for pod, said in (
        ("permissions", "rights are there"),
        ("leader", "leads"),
        ("metrics", "2 replicas serve them, one leads"),
    ):
        assert said in place.containers.logs[f"lehr-test-{pod}"], place.containers.logs


@pytest.mark.parametrize(("name", "monitored"), [("helm", True), pytest.param("helm-3", False, marks=pytest.mark.long)])
def test_a_life_of_the_chart(place: Home, before: set, name: str, monitored: bool, tmp_path: Path) -> None:
    """Install, test, upgrade to a chart with another CRD and other settings, roll back, uninstall: nothing is left."""
    if monitored:
        applied(place, monitoring_types())
        before = place.everything()
    place.install(name=name)
    assert "Severity" not in columns(place)
    kinds = {row[0] for row in place.everything() - before}
    assert ({"PodMonitor", "PrometheusRule"} <= kinds) == monitored
    passes_its_tests(place, name)
    assert not [c for c in place.world.admin.items(f"/api/v1/namespaces/{SYSTEM}/pods") if "test" in c["metadata"]["name"]]
    first = {c.name for c in place.containers.by_prefix("lehr-controller")}
    assert len(first) == 2

    place.upgrade(merged(QUICK, {"controller": {"resyncSeconds": 2}}), name, next_version(tmp_path))
    assert {"Severity", "severity"} <= set(columns(place)), "the upgrade brought the type along"
    second = {c.name for c in place.containers.by_prefix("lehr-controller")}
    assert not first & second, "a changed setting replaced the pods"
    passes_its_tests(place, name)

    place.helm("rollback", "lehr", "1", "--wait", "--timeout", "120s", name=name)
    assert "Severity" not in columns(place)
    passes_its_tests(place, name)

    place.uninstall(name)
    settled(place)
    assert place.everything() == before
    if monitored:
        place.kubectl("delete", "crd", *(item["metadata"]["name"] for item in monitoring_types()))


KEPT: Object = merged(QUICK, {"nodeReports": {"crd": {"keep": True}}, "training": {"namespaces": [{"name": "kept"}]}})


def test_what_is_kept_is_taken_over_again(place: Home, before: set) -> None:
    """By default type, reports and training namespaces outlive the release, and a new one finds them."""
    place.install(KEPT)
    report = {"apiVersion": "lehr.dev/v1", "kind": "NodeReport", "metadata": {"name": "r", "namespace": "kept"}}
    place.world.admin.create(
        "/apis/lehr.dev/v1/namespaces/kept/nodereports", {**report, "spec": {"node": "n", "reason": "slow", "by": "admin"}}
    )
    place.uninstall()
    by_itself = ("ServiceAccount", "ConfigMap", "APIService")  # comes with each namespace, and with each type
    left = {row for row in place.everything() - before if row[0] not in by_itself}
    assert left == {
        ("CustomResourceDefinition", "<none>", "nodereports.lehr.dev"),
        ("Namespace", "<none>", "kept"),
        ("NodeReport", "kept", "r"),
    }
    place.install(KEPT)
    assert place.world.admin.get("/apis/lehr.dev/v1/namespaces/kept/nodereports/r")["spec"]["by"] == "admin"
    place.upgrade(
        merged(KEPT, {"nodeReports": {"crd": {"keep": False}}, "training": {"namespaces": [{"name": "kept", "keep": False}]}})
    )
    place.uninstall()
    settled(place)
    assert place.everything() == before


def test_helm_test_finds_what_is_wrong(place: Home, before: set) -> None:
    """A right too few, a right too many, and a controller that is not there: each fails its test, which says so."""
    place.install()
    place.kubectl("delete", "rolebinding", "lehr-controller", "-n", TRAINING)
    assert place.helm("test", "lehr", "--timeout", "120s", check=False).returncode != 0
    assert f"may not list pods in {TRAINING}" in place.containers.logs["lehr-test-permissions"]
    place.upgrade()
    if "lehr-controller" not in place.kubectl("get", "rolebindings", "-n", TRAINING, "-o", "name"):
        place.helm("rollback", "lehr", "1", "--wait")
    place.kubectl(
        "create", "clusterrolebinding", "careless", "--clusterrole=cluster-admin", f"--serviceaccount={SYSTEM}:lehr-controller"
    )
    try:
        assert place.helm("test", "lehr", "--timeout", "120s", check=False).returncode != 0
        said = place.containers.logs["lehr-test-permissions"]
        assert re.search(r"the controller may get secrets in \S+", said) and "bound" in said, said
    finally:
        place.kubectl("delete", "clusterrolebinding", "careless")
        place.kubectl("delete", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=test", "--ignore-not-found")


def test_accounts_of_tasks_may_do_nothing(place: Home, before: set) -> None:
    """No more than any account at all, which may ask what it may do."""
    place.install()

    def allowed(account: str) -> str:
        return place.kubectl("auth", "can-i", "--list", "-n", TRAINING, f"--as=system:serviceaccount:{account}", "--no-headers")

    assert allowed(f"{TRAINING}:lehr-task") == allowed(f"{OTHER}:default")
    for account in ("lehr-task", "default"):
        assert not place.world.admin.get(f"/api/v1/namespaces/{TRAINING}/serviceaccounts/{account}").get("secrets")


@pytest.mark.parametrize("case", ["everything", "flyte", "small"])
def test_the_server_takes_every_object(place: Home, before: set, case: str) -> None:
    """A dry run on the server, with its defaults, admission and validation."""
    applied(place, monitoring_types())
    made = render(read(CHART / f"ci/{case}-values.yaml"), MONITORING)
    objects = [item for item in made if item["kind"] != "Pod"]  # of `helm test`: their account is not there yet
    namespaces = {TRAINING, *(item["metadata"].get("namespace", TRAINING) for item in objects)} - {SYSTEM, "default"}
    for name in namespaces:
        place.kubectl("create", "namespace", name)
    try:
        text = yaml.safe_dump_all(objects)
        said = place.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", text=text)
        assert len(said.splitlines()) == len(objects)
    finally:
        place.kubectl("delete", "namespace", *namespaces, "--wait=false")
        place.kubectl("delete", "crd", *(item["metadata"]["name"] for item in monitoring_types()))


def test_tasks_pods_are_admitted_and_their_verdicts_count(place: Home, before: set) -> None:
    """A task's pod over the chart's PodTemplate, at the level `restricted`, as the server stores it: keys are in the main
    container only, and the preflight is still one whose verdict counts with `nodes.allowedImages`."""
    digest = "sha256:" + "a" * 64
    values = {
        "training": {"namespaces": [{"name": "strict", "keep": False}]},
        "nodes": {"checksOff": ["bandwidth"], "allowedImages": [digest]},
        "store": {"existingSecret": "keys"},
        "tasks": {"priorityClassName": "lehr-training", "tolerations": [{"key": "example.org/gpu", "operator": "Exists"}]},
    }
    place.install(merged(QUICK, values))
    template = place.world.admin.get("/api/v1/namespaces/strict/podtemplates/lehr-task")["template"]["spec"]
    task = ApiClient().sanitize_for_serialization(pod_spec(image="example.org/lehr:1"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "n0-0", "namespace": "strict"},
        "spec": merged_pod(template, task),
    }
    pod["spec"]["containers"][0]["image"] = "example.org/lehr:1"
    spec = json.loads(place.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=yaml.safe_dump(pod)))["spec"]
    names = {c["name"]: {e["name"] for e in c.get("env", [])} for c in [*spec["initContainers"], *spec["containers"]]}
    assert "AWS_SECRET_ACCESS_KEY" in names["primary"]
    assert not [name for c in ("preflight", "preflight-gate") for name in names[c] if name.startswith("AWS")]
    assert "LEHR_PROBE_BANDWIDTH" in names["preflight"] and spec["serviceAccountName"] == "lehr-task"
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"], spec["priority"]) == ("Never", False, 1000)
    status = {"initContainerStatuses": [{"name": "preflight", "imageID": f"example.org/lehr@{digest}"}]}
    assert is_ours(spec, status, [digest], "nvidia.com/gpu", [])


def test_another_name_in_another_namespace(place: Home, before: set) -> None:
    """Nothing hangs on the names `lehr` and `lehr-system`: account, policies, Service and Lease are found where they are."""
    place.kubectl("create", "namespace", "fleet")
    place.kubectl("label", "namespace", "fleet", "pod-security.kubernetes.io/enforce=restricted")
    make_node(place.world.admin, "unmanaged", "other", managed=False)
    elsewhere = ["--kubeconfig", str(place.kubeconfig), "-n", "fleet"]
    try:
        done = run("install", "gpu", str(CHART), "--wait", "--timeout", "120s", *elsewhere, values=QUICK, seconds=200)
        assert done.returncode == 0, done.stderr + place.why()
        done = run("test", "gpu", "--timeout", "120s", *elsewhere, seconds=200)
        assert done.returncode == 0, done.stderr + place.why()
        assert "one leads" in place.containers.logs["gpu-lehr-test-metrics"]
        patch = ["patch", "node", "unmanaged", "--type=merge", "-p", '{"spec": {"unschedulable": true}}']
        with pytest.raises(AssertionError, match=r"gpu-lehr-controller-nodes.*not labelled lehr.dev/managed=true"):
            place.kubectl(*patch, "--as=system:serviceaccount:fleet:gpu-lehr-controller")
    finally:
        run("uninstall", "gpu", "--wait", "--timeout", "120s", *elsewhere, seconds=200)
        place.kubectl("delete", "namespace", "fleet")
        place.kubectl("delete", "node", "unmanaged")


def test_the_page_is_followed(place: Home, tmp_path: Path, repository: Path) -> None:
    """Every line of the section of docs/fleet.md, in its order, by a shell: nothing else was done before."""
    place.kubectl("delete", "namespace", SYSTEM)
    settled(place)
    make_node(place.world.admin, "gpu-1", "gpu", managed=False)
    page = (repository / "docs/fleet.md").read_text(encoding="utf-8")
    block = page.partition("<!-- install: followed by tests/cluster/test_chart.py -->")[2].split("```")[1]
    for word, real in (
        ("REGISTRY", "example.org"),
        ("VERSION", "1"),
        ("GPU-NODE", "gpu-1"),
        ("POOL", "gpu"),
        ("OPERATORS", "o"),
        ("RESEARCHERS", "r"),
    ):
        assert word in block
        block = block.replace(word, real)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("helm", "kubectl"):
        (commands / name).symlink_to(str(find(name)))
    (commands / "lehr").write_text(f'#!/bin/sh\nexec {sys.executable} -m lehr.cli.main "$@"\n')
    (commands / "lehr").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "KUBECONFIG": str(place.kubeconfig)}
    for line in block.strip().splitlines():
        done = subprocess.run(line, shell=True, cwd=repository, env=environment, capture_output=True, text=True, timeout=240)  # noqa: S602
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}\n{place.why()}"
        if line.startswith("lehr nodes list"):
            assert "gpu-1" in done.stdout
