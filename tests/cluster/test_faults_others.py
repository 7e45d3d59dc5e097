"""The controller under two leaders, vanishing nodes, people and noise, against a real API server."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from lehr.infra.controller import node_commands as acts
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import HumanAct, NodeState
from lehr.infra.kube.api import NODES, Api, ApiError
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.faults import Plan
from tests.cluster.kubelet import Behaviour, Cluster, bad_verdict, pods_path
from tests.cluster.objects import PATHS
from tests.cluster.scenario import Scenario
from tests.cluster.test_faults import INJECTIONS, runs, scripted

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_two_leaders(world: World, cluster: Cluster) -> None:
    """Two controllers that both believe to lead: versions and uids let only one of them do each thing."""
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMES.namespace}/leases"
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMES.namespace}/roles/lehr-controller"
    rules = world.admin.get(role)["rules"]
    rules[-1]["resourceNames"].append("second")
    world.admin.merge(role, {"rules": rules})
    scope = f"{PATHS['ValidatingAdmissionPolicy']}/lehr-controller-scope"
    checks = world.admin.get(scope)["spec"]["validations"]
    for check in checks:  # which know one Lease
        check["expression"] = check["expression"].replace("name == 'lehr-controller'", "name in ['lehr-controller', 'second']")
    world.admin.merge(scope, {"spec": {"validations": checks}})
    world.admin.create(leases, {"metadata": {"name": "second"}})

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1)) as run:
            run.live(identity="one")
            run.live(identity="two", lease="second")
            eventually(lambda: all(life.controller.election.leading for life in run.lives), "both lead")
            run.submit()
            run.wait()
            # A renewal that a busy machine delays ends a leadership for a moment: it is had again.
            eventually(lambda: all(life.controller.election.leading for life in run.lives), "both lead still")
            run.check()
            return 2

    runs("two leaders", once)


def test_leader_taken_over(world: World, cluster: Cluster) -> None:
    """The leader dies without a word; the other replica takes over when the Lease has run out."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1)) as run:
            first = run.live(Plan(crash_at=12 + seed), identity="one")
            eventually(lambda: first.controller.election.leading or first.crashed(0), "one leads")
            second = run.live(identity="two")
            run.submit()
            assert first.crashed(10), "the plan kills it"
            run.wait()
            eventually(lambda: second.controller.election.leading, "the second leads")
            run.check()
            return sum(run.fired.values())

    runs("taken over", once) if INJECTIONS < 8 else [once(seed) for seed in range(8)]


def test_nodes_that_go(world: World, cluster: Cluster) -> None:
    """A bad node's object is deleted at some moment; its pods go with it, as the garbage collector would have them."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1)) as run:
            run.live()
            run.submit()
            time.sleep(0.03 * (seed % 8))
            gone = run.nodes[0]
            world.admin._json(_delete(f"{NODES}/{gone}"))
            for pod in world.admin.items(pods_path(TRAINING), {"fieldSelector": f"spec.nodeName={gone}"}):
                try:
                    cluster._end(pod)
                except ApiError as error:
                    assert error.status in (404, 409)
            eventually(lambda: run.runs_on(0) not in ("", *run.bad_nodes), "the pod of the gone node runs elsewhere")
            run.wait({run.nodes[1]})
            run.check({run.nodes[1]}, gone={gone})
            return 1

    runs("gone", once)


def _delete(path: str) -> object:
    from lehr.infra.kube.transport import Request

    return Request("DELETE", path, body={})


def test_people_cordon_meanwhile(world: World, cluster: Cluster) -> None:
    """A person holds a good node and a bad one at some moment: both stay theirs, and the bad pod is moved."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1), spares=3) as run:
            run.live()
            run.submit()
            time.sleep(0.02 * (seed % 10))
            act = HumanAct("olga", "looking at it", time.time())
            for name in (run.nodes[0], run.nodes[4]):
                acts.cordon(world.admin, name, act)
            run.wait()
            run.check_pods(run.bad_nodes)
            time.sleep(0.7)  # a resync: nobody lifts it
            for name in (run.nodes[0], run.nodes[4]):
                node = run.node(name)
                assert node.cached.unschedulable and node.hold == act, node
            assert run.node(run.nodes[4]).cordon is None
            return 2

    runs("cordoned", once)


def test_people_uncordon_meanwhile(world: World, cluster: Cluster) -> None:
    """A person lets a node in again right after our cordon: it stays open, as suspect, whatever the next pod says."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1), hold_seconds=0.5) as run:
            run.cluster.behaviours[run.nodes[0]].message = scripted(encode(bad_verdict()))
            run.live()
            run.submit()
            eventually(lambda: run.node(run.nodes[0]).cached.unschedulable, "our cordon")
            if seed % 2:
                acts.uncordon(world.admin, run.nodes[0], HumanAct("olga", "it is fine", time.time()))
            else:
                world.admin.merge(f"{NODES}/{run.nodes[0]}", {"spec": {"unschedulable": None}})
            run.wait({run.nodes[1]})
            eventually(lambda: run.node(run.nodes[0]).state == NodeState.SUSPECT.value, "suspect after an override")
            time.sleep(0.7)
            node = run.node(run.nodes[0])
            assert not node.cached.unschedulable and node.cordon is None and node.cached.record is not None
            assert node.cached.record.override is not None
            assert node.cached.record.override.by == ("olga" if seed % 2 else "unknown (kubectl)")
            return 1

    runs("uncordoned", once)


def test_nodes_that_change_all_the_time(world: World, cluster: Cluster) -> None:
    """Heartbeats, labels and foreign taints change under every patch: they survive, and the cordon comes through."""

    def churn(run: Scenario, api: Api, stop: threading.Event, done: Counter[str]) -> None:
        while not stop.is_set():
            for name in run.nodes[:3]:
                note = {"metadata": {"annotations": {"test/beat": str(done["beats"])}}}
                api.merge(f"{NODES}/{name}", note)
                done["beats"] += 1
            stop.wait(0.01)

    def once(seed: int) -> int:
        stop, done = threading.Event(), Counter[str]()
        with Scenario(world, cluster, bad=(0, 1)) as run:
            foreign = {"key": "test/foreign", "effect": "PreferNoSchedule"}
            world.admin.strategic(f"{NODES}/{run.nodes[0]}", {"spec": {"taints": [foreign]}})
            thread = threading.Thread(target=churn, args=(run, world.admin, stop, done))
            thread.start()
            try:
                run.live()
                run.submit()
                run.wait()
                run.check()
            finally:
                stop.set()
                thread.join()
            assert foreign in [dict(t) for t in run.node(run.nodes[0]).cached.taints]
            return done["beats"]

    runs("changing", once)


def test_a_late_controller_meets_refusing_gates(world: World, cluster: Cluster) -> None:
    """The gates gave up before the controller came: executions may come back to a node that nobody could cordon, but to
    none after its cordon."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1), hold_seconds=0.3) as run:
            run.submit()
            time.sleep(0.9)
            cluster.behaviours.update({n: Behaviour(cluster.behaviours[n].message) for n in run.nodes})
            run.live()
            eventually(lambda: all(run.runs_on(i) not in ("", *run.bad_nodes) for i in range(3)), "all run on good nodes")
            cordons = {name: run.node(name).cordon for name in run.nodes}
            assert {name for name, cordon in cordons.items() if cordon is not None} <= run.bad_nodes
            for name, cordon in cordons.items():
                if cordon is None:  # its pods had found another node before the controller came
                    continue
                late = [
                    a
                    for i in range(3)
                    for a in cluster.of_execution(run.execution(i))
                    if a.node == name and a.at > cordon.at + 0.5
                ]
                assert not late, late
            return 2

    runs("refusing", once)
