"""What the controller may and may not do, asked of the real API server; docs/security.md holds the answers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import NODES, Api, ApiError, Object
from tests.cluster.chart import objects
from tests.cluster.conftest import OTHER, TRAINING, World, eventually
from tests.cluster.fence import SYSTEM, Try, beside, jobs_path, node_job
from tests.cluster.kubelet import pods_path
from tests.cluster.objects import bystander, make_node, sweep
from tests.cluster.provide import find

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
START, END = "<!-- rights: written by tests/cluster/test_rights.py -->", "<!-- end of rights -->"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
ASKED = (
    ("nodes", ""),
    ("nodes/status", ""),
    ("nodes/proxy", ""),
    ("namespaces", ""),
    ("persistentvolumes", ""),
    ("pods", TRAINING),
    ("pods/exec", TRAINING),
    ("pods/eviction", TRAINING),
    ("pods/log", TRAINING),
    ("nodereports.lehr.dev", TRAINING),
    ("secrets", TRAINING),
    ("configmaps", TRAINING),
    ("jobs.batch", TRAINING),
    ("pods", SYSTEM),
    ("jobs.batch", SYSTEM),
    ("leases.coordination.k8s.io/lehr-controller", SYSTEM),
    ("leases.coordination.k8s.io/another", SYSTEM),
    ("secrets", SYSTEM),
    ("configmaps", SYSTEM),
    ("deployments.apps", SYSTEM),
    ("serviceaccounts/token", SYSTEM),
    ("events", "default"),
    ("pods", OTHER),
    ("pods", "kube-system"),
    ("secrets", "kube-system"),
    ("clusterroles.rbac.authorization.k8s.io", ""),
    ("validatingadmissionpolicies.admissionregistration.k8s.io", ""),
)


def can_i(api: Api, verb: str, resource: str, namespace: str) -> bool:
    """What `kubectl auth can-i` asks the server, asked directly: a process for each of 216 questions takes long."""
    name, _, rest = resource.partition("/")
    kind, _, group = name.partition(".")
    asked = {"verb": verb, "resource": kind, "group": group, "namespace": namespace}
    asked |= {"name": rest} if kind == "leases" else {"subresource": rest}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    review |= {"spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}}}  # type: ignore[dict-item]
    found = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(found["status"]["allowed"])


def kubectl_can_i(world: World, verb: str, resource: str, namespace: str) -> bool:
    kubectl = find("kubectl")
    assert kubectl is not None, "run `make control-plane` first"
    name, _, rest = resource.partition("/")
    target = [resource] if name.startswith("leases") else [name, *([f"--subresource={rest}"] if rest else [])]
    where = ["-n", namespace] if namespace else []
    command = [str(kubectl), "auth", "can-i", verb, *target, *where, "--kubeconfig", str(world.controller_config), "-q"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def granted() -> dict[tuple[str, str], set[str]]:
    """What the chart says: (resource, namespace) -> verbs. Only these may be answered with yes."""
    found: dict[tuple[str, str], set[str]] = {}
    for item in objects([TRAINING]):
        if item["kind"] not in ("Role", "ClusterRole") or not item["metadata"]["name"].startswith("lehr-controller"):
            continue
        for rule in item["rules"]:
            group = rule["apiGroups"][0]
            for resource in rule["resources"]:
                full = f"{resource}.{group}" if group else resource
                full += f"/{rule['resourceNames'][0]}" if "resourceNames" in rule else ""
                found.setdefault((full, item["metadata"].get("namespace", "")), set()).update(rule["verbs"])
    return found


LIFE, EARLIER = "test_life.py::test_quarantine_tests_and_return", "test_life.py::test_a_job_of_an_earlier_life"
LEASE = "leases.coordination.k8s.io/lehr-controller"
# Every right, what the controller does with it, and the test that sees the request answered.
USES = (
    ("get", "nodes", "", "read back what was written, before a pod is deleted", LIFE),
    ("list", "nodes", "", "know the nodes", LIFE),
    ("watch", "nodes", "", "hear of every change", LIFE),
    ("patch", "nodes", "", "cordon, release, record, label, taints", LIFE),
    ("patch", "nodes/status", "", "the condition GPUUnhealthy", LIFE),
    ("list", "pods", TRAINING, "verdicts and termination messages", LIFE),
    ("watch", "pods", TRAINING, "hear of them at once", LIFE),
    ("delete", "pods", TRAINING, "remove the one pod whose gate holds it", LIFE),
    ("list", "nodereports.lehr.dev", TRAINING, "people's reports", LIFE),
    ("watch", "nodereports.lehr.dev", TRAINING, "hear of them", LIFE),
    ("create", "jobs.batch", SYSTEM, "revalidation, burn-in and pair tests", LIFE),
    ("get", "jobs.batch", SYSTEM, "find the Job that an earlier life created", EARLIER),
    ("list", "jobs.batch", SYSTEM, "tests that run", LIFE),
    ("watch", "jobs.batch", SYSTEM, "hear of their end", LIFE),
    ("delete", "jobs.batch", SYSTEM, "remove a Job whose result is counted", LIFE),
    ("list", "pods", SYSTEM, "the tests' verdicts", LIFE),
    ("watch", "pods", SYSTEM, "hear of them, and of a pair test's address", LIFE),
    ("get", LEASE, SYSTEM, "see who leads, and breakers closed by hand", LIFE),
    ("update", LEASE, SYSTEM, "lead", LIFE),
    ("create", "events", "default", "tell people", LIFE),
)
USES_START, USES_END = "<!-- uses: written by tests/cluster/test_rights.py -->", "<!-- end of uses -->"


def test_every_right_is_used(repository: Path) -> None:
    """The table of docs/security.md. The tests that it names check the use: they record what was answered."""
    named: dict[tuple[str, str], set[str]] = {}
    lines = ["| right | namespace | what for | used in |", "|---|---|---|---|"]
    for verb, resource, namespace, what, test in USES:
        named.setdefault((resource, namespace), set()).add(verb)
        file, _, function = test.partition("::")
        assert f"def {function}(" in (repository / "tests/cluster" / file).read_text(), test
        lines.append(f"| {verb} {resource} | {namespace or '(cluster)'} | {what} | `{test}` |")
    assert named == granted()
    _agrees(repository / "docs/security.md", "\n".join(lines), USES_START, USES_END)


def test_rights_are_the_least(world: World, repository: Path) -> None:
    """Every right in the chart is there, no other one is, and docs/security.md says the same."""
    lines = ["| resource | namespace | may | is refused |", "|---|---|---|---|"]
    expected = granted()
    assert set(expected) <= set(ASKED), "a right that nobody asks about"
    api = Api(world.controller())
    for resource, namespace in ASKED:
        allowed = [verb for verb in VERBS if can_i(api, verb, resource, namespace)]
        refused = [verb for verb in VERBS if verb not in allowed]
        for verb in (*allowed, refused[0]):
            assert kubectl_can_i(world, verb, resource, namespace) == (verb in allowed), (verb, resource)
        assert set(allowed) == expected.get((resource, namespace), set()), (resource, namespace, allowed)
        lines.append(f"| {resource} | {namespace or '(cluster)'} | {', '.join(allowed) or '-'} | {', '.join(refused) or '-'} |")
    _agrees(repository / "docs/security.md", "\n".join(lines), START, END)


def _agrees(path: Path, text: str, start: str, end: str) -> None:
    """The section of the document is `text`; LEHR_WRITE_DOCS=1 writes it."""
    document = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.S)
    assert pattern.search(document), f"{path.name} has no section {start}"
    wanted = pattern.sub(lambda _: f"{start}\n{text}\n{end}", document)
    if os.environ.get("LEHR_WRITE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
    assert document == wanted or os.environ.get("LEHR_WRITE_DOCS"), "run again with LEHR_WRITE_DOCS=1"


FENCE_START, FENCE_END = "<!-- fence: written by tests/cluster/test_rights.py -->", "<!-- end of fence -->"


@pytest.fixture
def all_powerful(world: World) -> Iterator[Api]:
    """The controller's account with cluster-admin on top, as after a careless binding: only the policies hold it now."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": "lehr-controller", "namespace": SYSTEM}
    made = world.admin.create(path, {"metadata": {"name": "careless"}, "roleRef": role, "subjects": [subject]})
    api = Api(world.controller())
    eventually(lambda: api.get("/api/v1/namespaces"), "the binding is in force")
    yield api
    world.admin.delete(f"{path}/careless", made["metadata"]["uid"])
    eventually(lambda: not can_i(api, "list", "namespaces", ""), "the binding is gone")


def test_the_fence_holds_even_cluster_admin(world: World, all_powerful: Api, repository: Path) -> None:
    api, admin = all_powerful, world.admin
    make_node(admin, "fenced", "fenced")
    make_node(admin, "foreign", "fenced", managed=False)
    for namespace in (TRAINING, OTHER, "default"):
        eventually(lambda n=namespace: admin.get(f"/api/v1/namespaces/{n}/serviceaccounts/default"), "accounts")
    admin.create(pods_path(TRAINING), bystander(TRAINING, "ours", "fenced"))
    admin.create(pods_path(OTHER), bystander(OTHER, "theirs", "fenced"))
    lines = ["| with cluster-admin the controller tries to | answer |", "|---|---|"]
    try:
        for what, allowed, call in _tries(api, admin):
            answer = _answer(call)
            assert (answer == "done") == allowed, (what, answer)
            lines.append(f"| {what} | {answer} |")
    finally:
        sweep(admin, (TRAINING, OTHER), "fenced")
    _agrees(repository / "docs/security.md", "\n".join(lines), FENCE_START, FENCE_END)


def _answer(call: Callable[[], object]) -> str:
    try:
        call()
    except ApiError as error:
        assert error.status in (403, 422) and "ValidatingAdmissionPolicy" in error.message, error
        return "refused: " + error.message.rpartition("denied request: ")[2]
    return "done"


def _tries(api: Api, admin: Api) -> list[Try]:
    def node(patch: Object, name: str = "fenced") -> Callable[[], object]:
        return lambda: api.merge(f"{NODES}/{name}", patch)

    def label(labels: Object, name: str = "fenced") -> Callable[[], object]:
        return node({"metadata": {"labels": labels}}, name)

    def make(path: str, name: str) -> Callable[[], object]:
        return lambda: api.create(path, {"metadata": {"name": name}})

    def status(patch: Object) -> Callable[[], object]:
        return lambda: api.strategic(f"{NODES}/fenced/status", {"status": patch})

    def pod(namespace: str, name: str) -> Callable[[], object]:
        return lambda: api.delete(pods_path(namespace, name), admin.get(pods_path(namespace, name))["metadata"]["uid"])

    def taint() -> object:
        """Once those of the node lifecycle controller, which follow a cordon, have gone."""
        eventually(lambda: not admin.get(f"{NODES}/fenced")["spec"].get("taints"), "no other taints")
        return node({"spec": {"taints": [{"key": NAMES.suspect_taint, "effect": "PreferNoSchedule"}]}})()

    why = {"annotations": {NAMES.cordon_annotation: "{}"}}
    return [
        ("label a managed node with its state", True, label({NAMES.state_label: "suspect"})),
        ("change another label", False, label({"kubernetes.io/os": "x"})),
        ("take a node under its own management", False, label({NAMES.managed_label: "true"}, "foreign")),
        ("cordon a node that is not managed", False, node({"metadata": why, "spec": {"unschedulable": True}}, "foreign")),
        ("cordon without a reason", False, node({"spec": {"unschedulable": True}})),
        ("cordon with its reason", True, node({"metadata": why, "spec": {"unschedulable": True}})),
        ("uncordon what it cordoned", True, node({"metadata": {"annotations": {NAMES.cordon_annotation: None}},
                                                 "spec": {"unschedulable": None}})),
        ("write another's annotation", False, node({"metadata": {"annotations": {"x/y": "z"}}})),
        ("set its own taint", True, taint),
        ("set another taint", False, node({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}})),
        ("change a node's provider id", False, node({"spec": {"providerID": "x://y"}})),
        ("add a finalizer to a node", False, node({"metadata": {"finalizers": ["x/y"]}})),
        ("set its own condition", True, status({"conditions": [{"type": NAMES.condition, "status": "False"}]})),
        ("set the Ready condition", False, status({"conditions": [{"type": "Ready", "status": "False"}]})),
        ("change a node's capacity", False, status({"capacity": {"cpu": "1"}})),
        ("delete a node", False, lambda: api.delete(f"{NODES}/fenced", admin.get(f"{NODES}/fenced")["metadata"]["uid"])),
        ("create a node", False, make(NODES, "new")),
        ("delete a pod of a training namespace", True, pod(TRAINING, "ours")),
        ("delete a pod of another namespace", False, pod(OTHER, "theirs")),
        ("create a pod", False, lambda: api.create(pods_path(TRAINING), bystander(TRAINING, "new", "fenced"))),
        ("create a secret", False, make("/api/v1/namespaces/default/secrets", "x")),
        ("create a role", False, make("/apis/rbac.authorization.k8s.io/v1/clusterroles", "x")),
        ("start a revalidation Job", True, lambda: api.create(jobs_path(SYSTEM), node_job(admin))),
        ("start a Job elsewhere", False, lambda: api.create(jobs_path("default"), node_job(admin, namespace="default"))),
        ("start a Job with a token", False, lambda: api.create(jobs_path(SYSTEM), node_job(admin, token=True))),
        ("start a Job that reads a secret", False, lambda: api.create(jobs_path(SYSTEM), node_job(admin, secret=True))),
        ("start a Job that reads one first", False, lambda: api.create(jobs_path(SYSTEM), node_job(admin, first=True))),
        ("make a ConfigMap", False, make(f"/api/v1/namespaces/{SYSTEM}/configmaps", "x")),
        *beside(api, admin),
    ]  # fmt: skip
