"""`lehr nodes` and `lehr controller` as people meet them: in processes of their own, with ordinary kubeconfigs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lehr.infra.controller.parsers import closed_breakers
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.kube.api import NODES
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.kubelet import Cluster, bad_verdict
from tests.cluster.scenario import Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]
Lehr = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(world: World, cluster: Cluster) -> Iterator[Scenario]:
    """A cordoned node (0), a node in service (1), and people: olga operates, alice may report, nobody may nothing."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    olga = {"roleRef": {**role, "name": "lehr-operator"}, "subjects": [{"kind": "User", "name": "olga"}]}
    world.admin.create(bindings, {"metadata": {"name": "olga"}, **olga})
    viewers = [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "olga"}]
    world.admin.create(
        bindings, {"metadata": {"name": "view"}, "roleRef": {**role, "name": "lehr-viewer"}, "subjects": viewers}
    )
    reporter = {"roleRef": {**role, "name": "lehr-reporter"}, "subjects": [{"kind": "User", "name": "alice"}]}
    local = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TRAINING}/rolebindings"
    world.admin.create(local, {"metadata": {"name": "alice-reports"}, **reporter})
    with Scenario(world, cluster, bad=(0,), settings={"policy": {"revalidation_timeout_seconds": 36000}}) as made:
        cluster.behaviours[made.nodes[0]].test = lambda: None
        made.live()
        made.submit()
        eventually(lambda: made.node(made.nodes[0]).state == "revalidating", "a node being tested")
        yield made


@pytest.fixture(scope="module")
def lehr(world: World) -> Lehr:
    def call(person: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = world.plane.kubeconfig(f"{person}-cli", f"{person}-token", TRAINING)
        environment = {**os.environ, "KUBECONFIG": str(config), "COLUMNS": "160"}
        command = [sys.executable, "-m", "lehr.cli.main", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return call


def test_list_and_show(run: Scenario, lehr: Lehr) -> None:
    bad, good = run.nodes[:2]
    listed = lehr("alice", "nodes", "list", "-l", f"test/pool={run.pool}")
    assert listed.returncode == 0, listed.stderr
    row = next(line for line in listed.stdout.splitlines() if line.startswith(bad + " "))
    assert row.split()[1:5] == ["revalidating", run.pool, "8", "yes"] and "MatmulMismatch" in row and "preflight" in row
    assert "5 nodes: 4 healthy, 1 revalidating" in listed.stdout
    data = json.loads(lehr("alice", "nodes", "list", "--state", "revalidating", "--json").stdout)
    assert [n["node"] for n in data] == [bad] and data[0]["record"]["cordon"]["execution"] == run.execution(0)
    shown = lehr("alice", "nodes", "show", bad)
    for text in ("MatmulMismatch", "bit 3 of row 7", run.execution(0), "GPU-hours lost", "revalidating"):
        assert text in shown.stdout, shown.stdout + shown.stderr
    assert json.loads(lehr("alice", "nodes", "show", good, "--json").stdout)["state"] == "healthy"
    past = lehr("alice", "nodes", "history", bad)
    assert "NodeQuarantined" in past.stdout and "PreflightFailed" in past.stdout, past.stdout + past.stderr


def test_a_person_cordons_and_lets_go(run: Scenario, lehr: Lehr, world: World) -> None:
    node = run.nodes[4]
    done = lehr("olga", "nodes", "cordon", node, "--reason", "replacing the NIC", "--for", "4h")
    assert done.returncode == 0 and "cordoned by olga: replacing the NIC" in done.stdout, done.stderr
    seen = json.loads(lehr("alice", "nodes", "show", node, "--json").stdout)
    assert seen["state"] == "held" and seen["by"] == "olga" and seen["hold"]["until"] > seen["hold"]["at"] + 4 * 3600 - 5
    assert "held" in lehr("alice", "nodes", "list").stdout
    done = lehr("olga", "nodes", "uncordon", node, "--reason", "done")
    assert done.returncode == 0 and "open again" in done.stdout, done.stderr

    def kept() -> bool:
        record = run.node(node).cached.record
        return record is not None and record.override is not None and record.override.by == "olga"

    eventually(kept, "the controller keeps who it was")
    assert NAMES.hold_annotation not in run.node(node).cached.annotations and not run.node(node).cached.unschedulable
    assert "done" in lehr("alice", "nodes", "history", node).stdout


def test_what_rights_refuse_is_said_clearly(run: Scenario, lehr: Lehr) -> None:
    node = run.nodes[3]
    refused = lehr("alice", "nodes", "cordon", node, "--reason", "slow")
    assert refused.returncode == 2 and "you may not cordon nodes" in refused.stderr and "lehr nodes report" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1 and not run.node(node).cached.unschedulable
    assert "you may not list nodes" in lehr("nobody", "nodes", "list").stderr
    unknown = lehr("mallory", "nodes", "list")
    assert unknown.returncode == 2 and "does not know you" in unknown.stderr
    missing = lehr("olga", "nodes", "cordon", "gpu-404", "--reason", "x")
    assert missing.returncode == 2 and '"gpu-404" not found' in missing.stderr
    assert lehr("olga", "nodes", "cordon", node, "--reason", " ").returncode == 2
    assert "is not a time" in lehr("olga", "nodes", "cordon", node, "--reason", "x", "--for", "soon").stderr
    assert lehr("olga", "nodes", "cordon", node).returncode == 2


def test_a_user_without_rights_reports(run: Scenario, lehr: Lehr, cluster: Cluster) -> None:
    node = run.nodes[3]
    cluster.behaviours[node].test = lambda: None  # else it is found healthy before it is looked at
    done = lehr("alice", "nodes", "report", node, "--reason", "NaN in layer 3, only here")
    assert done.returncode == 0 and f"reported {node} as alice: {TRAINING}/report-" in done.stdout, done.stderr
    eventually(lambda: run.node(node).state == "suspect", "a suspect")
    for command in ("history", "show"):
        told = lehr("olga", "nodes", command, node).stdout
        assert "alice" in told and "NaN in layer 3, only here" in told, told
    (row,) = json.loads(lehr("olga", "nodes", "list", "--state", "suspect", "--json").stdout)
    assert row["by"] == "alice" and row["reason"] == "ReportedByUser: NaN in layer 3, only here"
    mistyped = lehr("alice", "nodes", "report", "gpu-404", "--reason", "x")
    assert mistyped.returncode == 2 and '"gpu-404" not found' in mistyped.stderr
    refused = lehr("alice", "nodes", "report", node, "--reason", "x", "-n", "other")
    assert refused.returncode == 2 and "lehr-reporter" in refused.stderr


def test_a_breaker_is_closed_by_hand(run: Scenario, lehr: Lehr) -> None:
    done = lehr("olga", "nodes", "close-breaker", "check/nccl@1", "--reason", "fixed in version 2")
    assert done.returncode == 0 and "closed by olga" in done.stdout, done.stderr
    election = run.lives[0].controller.election
    eventually(lambda: "check/nccl@1" in closed_breakers(election.annotations), "the controller knows")
    assert lehr("olga", "nodes", "close-breaker", "cap/default", "--reason", "x").returncode == 2
    assert lehr("alice", "nodes", "close-breaker", "pool/a", "--reason", "x").returncode == 2


def test_the_controller_refuses_bad_settings(run: Scenario, lehr: Lehr, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for text, said in (
        ("namespace: x", "namespaces"),
        ("webhook_url: ftp://x", "webhook"),
        ("policy: {x: 1}", "policy.x"),
        ("lease_seconds: 5", "renew_seconds"),
    ):
        path.write_text(text)
        done = lehr("olga", "controller", "run", "--settings", str(path))
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert lehr("olga", "controller", "run", "--settings", str(tmp_path / "none")).returncode == 2


def test_what_a_person_wrote_by_hand_breaks_nothing(run: Scenario, lehr: Lehr, world: World) -> None:
    """Annotations of any shape: the commands and the controller take them for absent."""
    node, live = run.nodes[2], run.lives[0]
    for text in ("{", "[]", '{"state":"x"}', encode(bad_verdict())):
        note = {"metadata": {"annotations": {NAMES.record_annotation: text, NAMES.hold_annotation: text}}}
        world.admin.merge(f"{NODES}/{node}", note)
        assert lehr("alice", "nodes", "show", node).returncode == 0
    assert live.controller.election.leading and live.failure is None
