"""The chart on a real API server: installed, tested, upgraded, rolled back and uninstalled by Helm itself, its pods running."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.infra.kube.api import Object
from tests.cluster.chart import CHART
from tests.cluster.conftest import TRAINING, eventually
from tests.cluster.installation import QUICK, SYSTEM, Home, applied, home, monitoring_types, settled
from tests.helm.values import merged

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


def tested(place: Home, name: str = "helm", *pods: str) -> None:
    """`helm test` passes, and each pod said why."""
    place.helm("test", "lehr", "--timeout", "120s", name=name)
    for pod, said in (
        ("permissions", "rights are there"),
        ("leader", "leads"),
        ("metrics", "2 replicas serve them, one leads"),
    ):
        assert said in place.containers.logs[f"lehr-test-{pod}"], place.containers.logs


@pytest.mark.parametrize(("name", "monitored"), [("helm", False), ("helm-3", True)])
def test_a_life_of_the_chart(place: Home, before: set, name: str, monitored: bool, tmp_path: Path) -> None:
    """Install, test, upgrade to a chart with another CRD and other settings, roll back, uninstall: nothing is left."""
    if monitored:
        applied(place, monitoring_types())
        before = place.everything()
    place.install(name=name)
    assert "Severity" not in columns(place)
    kinds = {row[0] for row in place.everything() - before}
    assert ({"PodMonitor", "PrometheusRule"} <= kinds) == monitored
    tested(place, name)
    assert not [c for c in place.world.admin.items(f"/api/v1/namespaces/{SYSTEM}/pods") if "test" in c["metadata"]["name"]]
    first = {c.name for c in place.containers.by_prefix("lehr-controller")}
    assert len(first) == 2

    place.upgrade(merged(QUICK, {"controller": {"resyncSeconds": 2}}), name, next_version(tmp_path))
    assert {"Severity", "severity"} <= set(columns(place)), "the upgrade brought the type along"
    second = {c.name for c in place.containers.by_prefix("lehr-controller")}
    assert not first & second, "a changed setting replaced the pods"
    tested(place, name)

    place.helm("rollback", "lehr", "1", "--wait", "--timeout", "120s", name=name)
    assert "Severity" not in columns(place)
    tested(place, name)

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
    left = {row for row in place.everything() - before if row[0] not in ("ServiceAccount", "ConfigMap")}
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
    place.install()
    account = f"--as=system:serviceaccount:{TRAINING}:lehr-task"
    eventually(lambda: place.kubectl("auth", "can-i", "--list", "-n", TRAINING, account, "--no-headers"), "an answer")
    allowed = place.kubectl("auth", "can-i", "--list", "-n", TRAINING, account, "--no-headers")
    verbs = [line for line in allowed.splitlines() if not line.startswith(("selfsubject", " ", "\t"))]
    assert not verbs, allowed
