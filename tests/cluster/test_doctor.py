"""`lehr doctor --cluster` on a real API server: content where all is there, and with one thing missing its own line says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lehr import __version__
from lehr.cli.main import main
from lehr.infra.doctor import cluster, flyte
from lehr.infra.doctor.cluster import ADMISSION, CHECKS, LEASE, check_cluster
from lehr.infra.doctor.place import Place
from lehr.infra.fleet.policy import NAMES
from lehr.infra.jobs.checks import check_namespace
from lehr.infra.kube.api import NODES, Api, Object
from lehr.runtime.errors import UserError
from lehr.runtime.findings import Finding, Verdict
from tests.cluster.conftest import OTHER, World, eventually
from tests.cluster.doctored import (
    FLYTE,
    LEASES,
    SYSTEM,
    TRAINS,
    cluster_of,
    flyte_config,
    flyte_files,
    lacking,
    leads,
    remove,
    without,
)  # fmt: skip
from tests.cluster.installation import monitoring_types
from tests.findings import said

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OK, WARN, FAIL, UNSEEN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNSEEN
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def place(world: World) -> Iterator[Place]:
    with cluster_of(world.admin) as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(place: Place) -> None:
    """The controller has just renewed its Lease."""
    place.api.merge(f"{LEASES}/{LEASE}", {"spec": leads()})


class Ours(Api):
    """A cluster that has no nodes but the doctor's, and no fence around the Jobs of the controller."""

    def items(self, path: str, query: Any = None) -> list[Object]:
        found = super().items(path, {"labelSelector": "test/pool=doctor"} if path == NODES else query)
        return [item for item in found if item["metadata"]["name"] != "lehr-controller-jobs"]


def all_of(place: Place) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_cluster(place)}


def test_a_cluster_as_it_should_be(place: Place) -> None:
    found = all_of(place)
    assert set(found) == {"API server", *(name for name, _ in CHECKS), "training operator"} | {
        f"Flyte: {wanted['path'].rpartition('.')[2]}" for wanted in flyte.needed()
    }
    # Other tests' nodes are in this cluster too, and the Prometheus operator's types are not.
    others = {name: f for name, f in found.items() if name not in ("GPU nodes", "monitoring types")}
    assert {finding.verdict for finding in others.values()} == {OK}, others
    assert "admin" in found["rights: Jobs"].found and "pod-1 leads" in found["controller"].found


def test_who_may_read_nothing_is_told_so(place: Place, world: World) -> None:
    """And everything that anybody may read is looked at all the same."""
    nobody = Api(world.transport(world.plane.kubeconfig("doctor-nobody", "nobody-token")))
    found = all_of(replace(place, api=nobody))
    hidden = {"chart", "controller", "admission policies", "namespace", "pod security", "accounts", "GPU nodes", "Flyte"}
    assert {name for name, f in found.items() if f.verdict is UNSEEN} == hidden, found
    assert {name for name, f in found.items() if f.verdict is WARN} == {"rights: Jobs", "rights: nodes", "monitoring types"}
    assert not [f for f in found.values() if f.verdict is FAIL]
    said(found["rights: Jobs"], WARN, "nobody may not", "create jobs.batch", f"-n {TRAINS} --clusterrole=lehr-submitter")
    said(found["rights: nodes"], WARN, "lehr-viewer")


def test_who_submits_sees_of_which_version_the_chart_is(place: Place, world: World) -> None:
    subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lehr-submitter"}
    binding = {"metadata": {"name": "bob"}, "roleRef": role, "subjects": [subject]}
    place.api.create(f"{RBAC}/namespaces/{TRAINS}/rolebindings", binding)
    bob = replace(place, api=Api(world.transport(world.plane.kubeconfig("doctor-bob", "bob-token"))))
    eventually(lambda: cluster.rights_on_jobs(bob).verdict is OK, "bob may submit")
    said(cluster.chart(bob), OK, "lehr-0.1.0")
    for look in (cluster.training_namespace, cluster.pod_security, cluster.accounts):
        said(look(bob), OK)


def test_a_server_that_does_not_know_who_asks_is_asked_nothing_else(place: Place, world: World) -> None:
    stranger = Api(world.transport(world.plane.kubeconfig("doctor-stranger", "no-such-token")))
    (only,) = check_cluster(replace(place, api=stranger))
    said(only, FAIL, "does not know you", "log in again")
    (only,) = check_cluster(lacking(place, "/version", 503))
    assert (only.check, only.verdict) == ("API server", FAIL)


def test_the_servers_clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    said(cluster.clock(place), OK)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1000)
    said(cluster.clock(place), FAIL, "ahead of the API server's", "chrony")


@pytest.mark.parametrize("version", [__version__, "9.9"])
def test_chart(place: Place, version: str) -> None:
    ours = replace(place, version=version)
    said(cluster.chart(ours), OK if version == __version__ else WARN, "lehr-0.1.0")
    said(cluster.chart(replace(ours, system="nowhere")), FAIL, "not installed in nowhere", "helm install")


def test_controller(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def becomes(spec: Object | None) -> None:
        place.api.merge(f"{LEASES}/{LEASE}", {"spec": None})
        place.api.merge(f"{LEASES}/{LEASE}", {"spec": spec})

    monkeypatch.setattr(cluster, "RENEWAL_SECONDS", 0.3)
    said(cluster.controller(place), OK, "pod-1 leads")
    gone = (
        (leads(ago=3650), "pod-1 leads; the Lease was last renewed 3,6"),
        (leads(holder=""), "nobody leads"),
        (None, "nobody ever"),
    )
    for spec, words in gone:
        becomes(spec)
        said(cluster.controller(place), FAIL, words, f"kubectl get pods -n {SYSTEM}")
    for ago, words in ((3650, "behind"), (-3650, "ahead of")):  # alive, with a wrong clock: its Lease changes
        becomes(leads(ago))
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda _, ago=ago: place.api.merge(f"{LEASES}/{LEASE}", {"spec": leads(ago - 3)}))
            said(cluster.controller(place), WARN, "pod-1 leads, and its clock is 3,", words, "NTP")
    becomes(None)
    meta = {"name": "lehr-controller", "labels": {"app.kubernetes.io/part-of": "lehr"}}
    path = f"/api/v1/namespaces/{SYSTEM}/configmaps"
    place.api.create(path, {"metadata": meta, "data": {"settings.yaml": "dry_run: true\n"}})
    said(cluster.controller(place), WARN, "controller.dryRun")
    remove(place.api, f"{path}/lehr-controller")
    said(cluster.controller(replace(place, system="nowhere")), FAIL, "no Lease")


def test_types(place: Place) -> None:
    said(cluster.report_type(place), OK)
    said(cluster.report_type(lacking(place, "/apis/lehr.dev/v1")), FAIL, "nodeReports.crd.install")
    said(cluster.monitoring(place), WARN, "podmonitors", "no alerts")
    for item in monitoring_types():
        place.api.create(CRDS, item)
    eventually(lambda: cluster.monitoring(place).verdict is OK, "the types are served")
    for item in monitoring_types():
        remove(place.api, f"{CRDS}/{item['metadata']['name']}")


def test_admission_policies(place: Place) -> None:
    said(cluster.admission(place), OK, "7 in force")
    bindings, policies = f"{ADMISSION}/validatingadmissionpolicybindings", f"{ADMISSION}/validatingadmissionpolicies"
    with without(place.api, bindings, "lehr-reports"):
        said(cluster.admission(place), FAIL, "not in force: lehr-reports")
    place.api.merge(f"{bindings}/lehr-reports", {"spec": {"validationActions": ["Audit"]}})
    said(cluster.admission(place), FAIL, "not in force: lehr-reports")
    place.api.merge(f"{bindings}/lehr-reports", {"spec": {"validationActions": ["Deny"]}})
    place.api.merge(f"{policies}/lehr-reports", {"spec": {"failurePolicy": "Ignore"}})
    said(cluster.admission(place), FAIL, "not in force: lehr-reports")
    place.api.merge(f"{policies}/lehr-reports", {"spec": {"failurePolicy": "Fail"}})
    with without(place.api, policies, "lehr-reports"):
        said(cluster.admission(place), FAIL, "without *-reports", "helm upgrade")
    said(cluster.admission(replace(place, api=Ours(place.api._transport))), FAIL, "without *-controller-jobs")
    said(cluster.admission(place), OK)


def test_namespace(place: Place) -> None:
    path = f"/api/v1/namespaces/{TRAINS}"
    said(cluster.training_namespace(place), OK, TRAINS)
    place.api.merge(path, {"metadata": {"labels": {NAMES.managed_label: None}}})
    said(cluster.training_namespace(place), FAIL, f"kubectl label namespace {TRAINS} lehr.dev/managed=true")
    place.api.merge(path, {"metadata": {"labels": {NAMES.managed_label: "true"}}})
    said(cluster.training_namespace(replace(place, namespace="nowhere")), FAIL, "no namespace nowhere")
    maps, meta = f"/api/v1/namespaces/{SYSTEM}/configmaps", {"name": "s", "labels": {"app.kubernetes.io/part-of": "lehr"}}
    place.api.create(maps, {"metadata": meta, "data": {"settings.yaml": "namespaces: [training]\n"}})
    said(cluster.training_namespace(place), FAIL, "looks at training alone", f"{TRAINS} in training.namespaces")
    place.api.merge(f"{maps}/s", {"data": {"settings.yaml": f"namespaces: [training, {TRAINS}]\n"}})
    said(cluster.training_namespace(place), OK)
    remove(place.api, f"{maps}/s")
    level = "pod-security.kubernetes.io/enforce"
    for value, words in ((None, "enforces no level"), ("privileged", "enforces `privileged` only")):
        place.api.merge(path, {"metadata": {"labels": {level: value}}})
        said(cluster.pod_security(place), WARN, words, f"{level}=restricted")
    place.api.merge(path, {"metadata": {"labels": {level: "restricted"}}})
    said(cluster.pod_security(place), OK)


def test_submit_refuses_a_namespace_that_is_not_labelled(world: World) -> None:
    with pytest.raises(UserError, match=r"the namespace other is not one for training.*\. An operator runs: kubectl label"):
        check_namespace(world.admin, OTHER)
    assert check_namespace(world.admin, "training") == ""


def test_accounts(place: Place) -> None:
    folder = f"/api/v1/namespaces/{TRAINS}/serviceaccounts"
    said(cluster.accounts(place), OK, "lehr-task and lehr-driver")
    with without(place.api, folder, "lehr-driver"):
        said(cluster.accounts(place), WARN, "no `lehr submit", "training.driver.create=true")
    with without(place.api, folder, "lehr-task"):
        said(cluster.accounts(place), WARN, "lehr-task", "training.namespaces")


def test_gpu_nodes(place: Place) -> None:
    node, here = f"{NODES}/doctor-gpu", replace(place, api=Ours(place.api._transport))
    said(cluster.gpu_nodes(here), OK, "1 of 1 nodes have 8 GPUs to give, all managed")
    said(cluster.gpu_nodes(replace(here, gpu_resource="amd.com/gpu")), WARN, "--gpu-resource nvidia.com/gpu")
    place.api.merge(node, {"metadata": {"labels": {NAMES.managed_label: None}}})
    said(cluster.gpu_nodes(here), WARN, "nobody cordons doctor-gpu", "lehr.dev/managed=true")
    place.api.merge(node, {"metadata": {"labels": {NAMES.managed_label: "true"}}})
    place.api.merge(node, {"spec": {"unschedulable": True}})
    said(cluster.gpu_nodes(here), WARN, "1 cordoned", "lehr nodes list")
    place.api.merge(node, {"spec": {"unschedulable": None}})
    place.api.strategic(f"{node}/status", {"status": {"allocatable": {"nvidia.com/gpu": "0"}}})
    said(cluster.gpu_nodes(here), WARN, "none on doctor-gpu", "device plugin")
    place.api.strategic(f"{node}/status", {"status": {"allocatable": {"nvidia.com/gpu": "8"}}})


def flytes(place: Place, files: dict[str, Any]) -> dict[str, Finding]:
    path = f"/api/v1/namespaces/{FLYTE}/configmaps/flyte-config"
    place.api.merge(path, {"data": None})
    place.api.merge(path, {"data": flyte_config(files)["data"]})
    return {finding.check: finding for finding in flyte.check_flyte(place)}


def test_flyte(place: Place) -> None:
    files = flyte_files()
    files["100-inline-config.yaml"]["plugins"]["k8s"].pop("inject-finalizer")
    found = flytes(place, files)
    assert [name for name, f in found.items() if f.verdict is FAIL] == ["Flyte: inject-finalizer"]
    said(found["Flyte: inject-finalizer"], FAIL, "(not set)", "set true")
    found = flytes(place, {**files, "200-more.yaml": "a: {b"})
    said(found["Flyte: inject-finalizer"], UNSEEN, "flyte-config/200-more.yaml could not be read")
    templates = f"/api/v1/namespaces/{TRAINS}/podtemplates"
    with without(place.api, templates, "lehr-task"):
        said(flytes(place, flyte_files())["Flyte: default-pod-template-name"], FAIL, "tasks.podTemplate.create")
    said(flytes(place, {"other.yaml": {"a": 1}})["Flyte"], OK, "none in the namespace")
    assert {f.verdict for f in flytes(place, flyte_files()).values()} == {OK}


def test_training_operator(place: Place) -> None:
    several = replace(place, stage_nodes=2)
    on = flyte_files()["100-inline-config.yaml"]
    on["tasks"]["task-plugins"]["enabled-plugins"].append("pytorch")
    said(flyte.operator(place, []), OK, "would need them")
    said(flyte.operator(several, [on]), FAIL, "a stage on 2 nodes is one", "training operator")
    spec = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": spec}}
    names = {"kind": "PyTorchJob", "plural": "pytorchjobs", "singular": "pytorchjob"}
    definition = {"group": "kubeflow.org", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    place.api.create(CRDS, {**crd, "metadata": {"name": "pytorchjobs.kubeflow.org"}, "spec": definition})
    eventually(lambda: flyte.operator(place, []).verdict is OK and "are known" in flyte.operator(place, []).found, "served")
    said(flyte.operator(several, [on]), OK)
    said(flyte.operator(several, list(flyte_files().values())), FAIL, "plugin `pytorch` is not in")
    said(flyte.operator(several, []), UNSEEN)
    remove(place.api, f"{CRDS}/pytorchjobs.kubeflow.org")


def test_the_command(place: Place, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is 2 for a failure alone, nothing that it prints holds a secret, and it changes nothing."""
    monkeypatch.setenv("STORE_SECRET_KEY", "planted-secret")
    config = world.plane.kubeconfig("doctor-admin", "admin-token", TRAINS)
    arguments = ["doctor", "--cluster", "--kubeconfig", str(config), "--system-namespace", SYSTEM, "--flyte-namespace", FLYTE]
    before = versions(place.api)
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] and {row["section"] for row in data["checks"]} == {"This machine", "The cluster"}
    assert next(row for row in data["checks"] if row["check"] == "namespace")["found"] == f"{TRAINS} is one for training"
    assert versions(place.api) == before
    named = [*arguments, "-n", "planted-secret"]
    assert main(named) == 2
    printed = capsys.readouterr().out
    assert "fail" in printed and "no namespace ***" in printed and "planted-secret" not in printed
    assert main([*arguments[:2], "--kubeconfig", str(Path(config).with_name("none"))]) == 2
    assert "no usable configuration for a cluster" in capsys.readouterr().out


def versions(api: Api) -> dict[str, str]:
    """Of the objects that a doctor reads."""
    paths = (f"/api/v1/namespaces/{TRAINS}/serviceaccounts", LEASES, f"/api/v1/namespaces/{FLYTE}/configmaps")
    found = [item for path in paths for item in api.items(path)]
    return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in found}
