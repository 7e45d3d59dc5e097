"""The whole way of a node on the real API server, with real Jobs and the real scheduler: quarantine, tests, return, repair."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lehr.infra.controller import node_commands as acts
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.decision_log import read, replay
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import HumanAct, Outcome, Verdict
from lehr.infra.kube.api import NODES
from lehr.infra.kube.transport import Reply, Request, Stream, Transport
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.kubelet import Cluster, bad_verdict, pods_path
from tests.cluster.objects import gated_pod, make_node
from tests.cluster.scenario import BASE, Life, Scenario
from tests.cluster.test_rights import granted

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
PASS = encode(Verdict(Outcome.PASS, "1"))
PATIENT = {"policy": {"revalidation_timeout_seconds": 864000}}  # the tests' clock jumps, the Jobs' does not


@dataclass
class Recorder:
    """Notes verb and resource of every request that was answered well."""

    inner: Transport
    used: set[tuple[str, str]] = field(default_factory=set)

    def send(self, request: Request) -> Reply:
        reply = self.inner.send(request)
        if reply.status < 300:
            parts = request.path.split("/")
            rest = parts[3:] if parts[1] == "api" else parts[4:]
            place = "" if rest[0] != "namespaces" else rest[1]
            rest = rest[2:] if place else rest
            one = len(rest) > 1
            verb = {"GET": "get" if one else "list", "POST": "create", "PUT": "update"}.get(
                request.method, request.method.lower()
            )
            self.used.add((f"{verb} {'/'.join([rest[0], *rest[2:]])}", place))
        return reply

    def open(self, request: Request) -> tuple[Reply, Stream | None]:
        parts = [p for p in request.path.split("/") if p]
        place = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        self.used.add((f"watch {parts[-1]}", place))
        return self.inner.open(request)


class Clock:
    """Real time, and jumps ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's receiver: its address and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", told
    server.shutdown()
    server.server_close()


def start(run: Scenario, clock: Clock, **settings: object) -> tuple[Life, Recorder]:
    recorder = Recorder(run.world.controller())
    life = Life(recorder, Settings.checked({**BASE, **PATIENT, **settings}), clock)
    run.lives.append(life)
    return life, recorder


def test_quarantine_tests_and_return(world: World, cluster: Cluster, tmp_path: Path) -> None:
    """Two passed Jobs, 15 minutes apart, bring a node back; every right was used; the log replays without a difference."""
    clock = Clock()
    with Scenario(world, cluster, bad=(0,)) as run:
        bad = run.nodes[0]
        cluster.behaviours[bad].test = lambda: PASS
        life, recorder = start(run, clock)
        progress = {f"{NAMES.prefix}/progress": json.dumps({"run": "olmo2", "rank": 3, "step": 1200, "checkpoint_step": 1000})}
        pod = gated_pod(TRAINING, run.execution(0), 0, run.pool, bad)
        pod["metadata"]["annotations"] = progress
        world.admin.create(pods_path(TRAINING), pod)
        eventually(lambda: run.node(bad).cached.record and run.node(bad).cached.record.passes, "one test passed")  # type: ignore[union-attr]
        node = run.node(bad)
        assert node.cordon is not None and node.cached.unschedulable and node.state == "quarantined"
        found = node.cordon
        assert (found.run, found.rank, found.step, found.checkpoint_step) == ("olmo2", 3, 1200, 1000)
        assert found.execution == run.execution(0) and found.gpu_hours_lost is not None and found.reason == "MatmulMismatch"
        assert node.cached.own_condition == ("True", "MatmulMismatch")
        time.sleep(0.8)
        assert run.node(bad).cached.unschedulable, "the second test waits for 15 minutes"
        clock.ahead += 15 * 60 + 1
        eventually(lambda: run.node(bad).state == "healthy", "the node is back")
        node = run.node(bad)
        assert not node.cached.unschedulable and node.cordon is None and NAMES.cordon_annotation not in node.cached.annotations
        eventually(lambda: run.node(bad).cached.own_condition == ("False", "Healthy"), "the condition is cleared")
        jobs = f"/apis/batch/v1/namespaces/{NAMES.namespace}/jobs"
        eventually(lambda: not world.admin.items(jobs), "Jobs whose result is counted are deleted")
        eventually(
            lambda: {"NodeQuarantined", "RevalidationPassed", "NodeReturned", "PreflightFailed"} <= _events(world, bad),
            "events",
        )
        _used_all_rights(recorder)
        log = tmp_path / "decisions.jsonl"
        log.write_text("".join(f"{line}\n" for line in life.log))
        again = replay(read(log), life.controller.settings.policy)
        assert again.entries >= 6 and not again.differences
        value = life.controller.metrics.registry.get_sample_value
        assert value("lehr_fleet_cordons_total", {"source": "preflight", "reason": "matmul"}) == 1
        assert value("lehr_fleet_uncordons_total", {"source": "revalidation"}) == 1
        assert value("lehr_fleet_false_cordons_total", {"source": "preflight"}) == 1


def _events(world: World, name: str) -> set[str]:
    return {str(event["reason"]) for event in acts.events_of(world.admin, name)}


def _used_all_rights(recorder: Recorder) -> None:
    for (resource, place), verbs in granted().items():
        name = resource.split(".")[0] if not resource.startswith("leases") else "leases"
        for verb in verbs:
            # A Job that is there already is read: see test_a_job_of_an_earlier_life.
            if (verb, name) != ("get", "jobs"):
                assert (f"{verb} {name}", place) in recorder.used, f"nobody uses {verb} {resource} in {place or 'the cluster'}"


def test_a_job_of_an_earlier_life(world: World, cluster: Cluster) -> None:
    """The controller died after it had created the Job and before it heard so: the next one finds it by its name."""
    from lehr.infra.controller.jobs import job
    from lehr.infra.controller.objects import node_object
    from lehr.infra.fleet.actions import StartRevalidation
    from lehr.infra.fleet.views import NodeRecord

    clock = Clock()
    with Scenario(world, cluster, bad=(0,)) as run:
        cached = node_object(world.admin.get(f"{NODES}/{run.nodes[0]}"), "nvidia.com/gpu")
        cluster.behaviours[run.nodes[0]].test = lambda: None
        orphan = job(cached, StartRevalidation(cached.key, NodeRecord(), 1, "revalidation"), Settings())
        orphan["metadata"]["labels"] = {"test/orphan": "true"}  # so that no watch shows it before it is looked for
        world.admin.create(f"/apis/batch/v1/namespaces/{NAMES.namespace}/jobs", orphan)
        _, recorder = start(run, clock)
        run.submit()
        eventually(lambda: run.node(run.nodes[0]).state == "revalidating", "the Job is taken over")
        eventually(lambda: ("get jobs", NAMES.namespace) in recorder.used, "by its name")
        assert len(world.admin.items(f"/apis/batch/v1/namespaces/{NAMES.namespace}/jobs")) == 1


def test_failed_tests_end_in_repair(world: World, cluster: Cluster, hook: tuple[str, list[dict[str, Any]]]) -> None:
    """Two failed tests flag the node, tell the webhook with the evidence, and only a person's word starts it anew."""
    clock = Clock()
    with Scenario(world, cluster, bad=(0,)) as run:
        bad = run.nodes[0]
        start(run, clock, webhook_url=hook[0])
        run.submit()
        eventually(lambda: (r := run.node(bad).cached.record) is not None and r.failures == 1, "the first test failed")
        clock.ahead += 15 * 60 + 1
        eventually(lambda: run.node(bad).state == "repair", "flagged for repair")
        assert "MatmulMismatch" in run.node(bad).cached.annotations[NAMES.repair_annotation]
        eventually(lambda: {t["kind"] for t in hook[1]} == {"cordon", "repair"}, "the webhook was told")
        evidence = hook[1][0]["evidence"]
        assert (
            hook[1][0]["node"] == bad and evidence["detail"] == "bit 3 of row 7" and evidence["execution"] == run.execution(0)
        )
        clock.ahead += 86400
        time.sleep(0.8)
        assert run.node(bad).state == "repair", "time mends nothing"
        cluster.behaviours[bad].test = lambda: PASS
        acts.repaired(world.admin, bad, HumanAct("olga", "new GPU", clock()))
        eventually(lambda: (r := run.node(bad).cached.record) is not None and len(r.passes) == 1, "tested again")
        clock.ahead += 15 * 60 + 1
        eventually(lambda: run.node(bad).state == "healthy", "back after a repair")
        assert NAMES.repair_annotation not in run.node(bad).cached.annotations


def test_new_nodes_burn_in(world: World, cluster: Cluster) -> None:
    clock = Clock()
    with Scenario(world, cluster, bad=()) as run:
        before = time.time()
        start(run, clock, policy={**PATIENT["policy"], "burn_in_created_after": before})
        time.sleep(1.01)  # the server's times are whole seconds
        new = f"{run.pool}-new"
        make_node(world.admin, new, run.pool)
        eventually(lambda: (r := run.node(new).cached.record) is not None and len(r.passes) == 1, "the first test")
        node = run.node(new)
        assert node.cached.unschedulable and node.state == "burn-in" and node.cached.own_condition[0] != "True"
        clock.ahead += 15 * 60 + 1
        eventually(lambda: run.node(new).state == "healthy" and not run.node(new).cached.unschedulable, "burnt in")
        assert not any(run.node(name).cached.record for name in run.nodes), "nodes in service are left alone"


def test_a_dry_run_writes_nothing(world: World, cluster: Cluster) -> None:
    with Scenario(world, cluster, bad=(0,)) as run:
        life = run.live(dry_run=True)
        run.submit()
        eventually(lambda: any('"kind":"cordon"' in line for line in life.log), "it says what it would do")
        time.sleep(1.2)
        assert not any(run.node(name).cached.unschedulable or run.node(name).cached.record for name in run.nodes)
        assert len([line for line in life.log if '"kind":"cordon"' in line]) == 1, "and says it once"


def test_a_check_that_the_policy_switches_off(world: World, cluster: Cluster) -> None:
    """Its failures are noted and cordon nobody; another check's do as ever."""
    policy = {"observe_only_checks": ["nccl"]}
    with Scenario(world, cluster, bad=(0, 1), hold_seconds=0.3) as run:
        cluster.behaviours[run.nodes[0]].message = lambda: encode(bad_verdict("nccl", "NcclMismatch"))
        run.live(policy=policy)
        for number in (0, 1):
            pod = gated_pod(TRAINING, run.execution(number), 0, run.pool, run.nodes[number])
            pod["metadata"]["labels"]["retry"] = "no"
            world.admin.create(pods_path(TRAINING), pod)
        eventually(lambda: run.node(run.nodes[1]).cordon is not None, "matmul's failure cordons")
        eventually(lambda: (r := run.node(run.nodes[0]).cached.record) is not None and bool(r.signals), "nccl's is noted")
        time.sleep(0.7)  # a resync
        assert run.node(run.nodes[0]).state == "healthy" and not run.node(run.nodes[0]).cached.unschedulable


def test_reports_of_users_add_up(world: World, cluster: Cluster) -> None:
    """One person's report makes a node suspect; a second person's and a proven one's word would cordon it."""
    with Scenario(world, cluster, bad=()) as run:
        run.live()
        target = run.nodes[0]
        run.submit()
        acts.report(world.admin, TRAINING, target, "NaNs only here", "admin")
        eventually(lambda: run.node(target).state == "suspect", "a suspect")
        assert {"key": NAMES.suspect_taint, "effect": "PreferNoSchedule"} in [dict(t) for t in run.node(target).cached.taints]
        time.sleep(0.8)
        assert not run.node(target).cached.unschedulable and bad_verdict().confirmed
        eventually(lambda: run.runs_on(0) == target, "what runs there runs on")
