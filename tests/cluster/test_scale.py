"""2,048 nodes with a pod each on the real API server: time of a round, memory, requests when idle, latency, and a check that
fails everywhere. The figures are printed, and stand in docs/fleet.md."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from lehr.infra.controller import node_commands as acts
from lehr.infra.controller.node_commands import NodeInfo
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import HumanAct, Outcome, Verdict
from lehr.infra.kube.api import NODES, Api
from lehr.monitoring.metrics import Fleet
from tests.cluster.conftest import OTHER, TRAINING, World, eventually
from tests.cluster.kubelet import Behaviour, Cluster, bad_verdict, pods_path
from tests.cluster.objects import gated_pod, make_node, sweep
from tests.cluster.plane import free_port, with_parent
from tests.cluster.scenario import BASE, Life

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]  # times reactions: on an idle machine
SIZE = int(os.environ.get("LEHR_FLEET", "2048"))
VERDICTS = 200
POOL = "big"
CALM = {**BASE, "resync_seconds": 60.0, "relist_seconds": 600.0, "lease_seconds": 15.0, "renew_seconds": 3.0}
QUICK = {**CALM, "lease_seconds": 1.0, "renew_seconds": 0.2}
WIDE = {"breaker_minimum": 10_000, "max_cordoned_fraction": 1.0, "revalidation_backoff_seconds": 36000.0}


def name_of(number: int) -> str:
    return f"{POOL}-{number:04d}"


def on_all(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(SIZE)))


@pytest.fixture(scope="module")
def broken(world: World, cluster: Cluster) -> Iterator[dict[str, str]]:
    """Nodes in racks of 32, each with a pod that fills it and whose preflight has failed: node -> the pod's uid."""
    uids: dict[str, str] = {}

    def make(number: int) -> None:
        name = name_of(number)
        cluster.behaviours[name] = Behaviour(
            lambda: encode(bad_verdict("nccl", "NcclMismatch")), lambda: encode(Verdict(Outcome.PASS, "2")), hold_seconds=36000
        )
        make_node(world.admin, name, POOL, rack=f"r{number // 32}")
        made = world.admin.create(pods_path(TRAINING), gated_pod(TRAINING, f"job{number}", 0, POOL, name))
        uids[name] = made["metadata"]["uid"]

    on_all(make)
    yield uids
    sweep(world.admin, (TRAINING, OTHER), POOL)


@pytest.fixture(scope="module")
def fleet(world: World, cluster: Cluster, broken: dict[str, str]) -> list[str]:
    """The same nodes in service, as if nothing had happened, each with a running pod."""
    clear = dict.fromkeys((NAMES.record_annotation, NAMES.cordon_annotation, NAMES.hold_annotation, NAMES.override_annotation))
    healthy = {"metadata": {"annotations": clear, "labels": {NAMES.state_label: None}}, "spec": {"taints": None}}
    healthy["spec"]["unschedulable"] = None
    pods = {pod["spec"].get("nodeName"): pod for pod in world.admin.items(pods_path(TRAINING))}

    def mend(number: int) -> None:
        name = name_of(number)
        cluster.behaviours[name] = Behaviour(hold_seconds=36000)
        world.admin.merge(f"{NODES}/{name}", healthy)
        if name in pods:
            cluster.finish_preflight(pods[name], encode(Verdict(Outcome.PASS, "1")))
        else:
            world.admin.create(pods_path(TRAINING), gated_pod(TRAINING, f"new{number}", 0, POOL, name))

    on_all(mend)
    running = {"fieldSelector": "status.phase=Running"}
    eventually(lambda: len(world.admin.items(pods_path(TRAINING), running)) == SIZE, "all pods run", 300)
    return [name_of(i) for i in range(SIZE)]


@pytest.fixture
def replicas(world: World, fleet: list[str], tmp_path: Path) -> Iterator[list[tuple[subprocess.Popen[bytes], int]]]:
    """Two controllers as processes, as the Deployment runs them: (process, metrics port)."""
    made = []
    for number in range(2):
        port, path = free_port(), tmp_path / f"settings{number}.yaml"
        log = str(tmp_path / f"decisions{number}.jsonl")
        path.write_text(yaml.safe_dump({**CALM, "identity": f"r{number}", "metrics_port": port, "decision_log": log}))
        environment = {**os.environ, "KUBECONFIG": str(world.controller_config), "PYTHONPATH": str(Path.cwd())}
        with (tmp_path / f"err{number}").open("wb") as errors:
            command = [sys.executable, "-m", "lehr.infra.controller", str(path)]
            made.append((subprocess.Popen(with_parent(command), env=environment, stderr=errors), port))
    yield made
    for process, _ in made:
        process.send_signal(signal.SIGTERM)
    for process, _ in made:
        assert process.wait(20) == 0


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {m[1]: float(m[2]) for m in re.finditer(r"^(lehr_[^ ]+) (\S+)$", text, re.M)}


def requests(port: int) -> float:
    return sum(v for k, v in scrape(port).items() if k.startswith(f"{Fleet.API_REQUESTS.name}{{"))


def rss_mib(process: subprocess.Popen[bytes]) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return max(float(m) for m in re.findall(r"Vm(?:HWM|RSS):\s+(\d+) kB", text)) / 1024


def test_a_check_that_fails_everywhere(world: World, cluster: Cluster, broken: dict[str, str]) -> None:
    """Every start of the fleet fails in one check: at most 8 cordons, an open breaker, nothing else touched, and a way back."""
    ahead = [0.0]
    began = time.monotonic()
    life = Life(world.controller(), Settings.checked(QUICK), lambda: time.time() + ahead[0])
    try:
        eventually(lambda: _blocked(life) >= SIZE - 8, "every other node waits as a suspect", 600)
        found = {n.cached.key: n for n in acts.listed(world.admin, f"test/pool={POOL}")}
        cordoned = {name for name, node in found.items() if node.cached.unschedulable}
        gone = {name for name, uid in broken.items() if uid in cluster.deleted_at}
        said = f"a check that fails on {len(found)} nodes: {len(cordoned)} cordoned, {len(gone)} pods removed"
        print(f"{said}, all decided after {time.monotonic() - began:.0f} s")
        assert sum(n.state == "suspect" for n in found.values()) >= SIZE - 8
        assert len(found) == SIZE and 1 <= len(cordoned) <= 8 and gone <= cordoned
        life.controller._resync_at = 0.0
        key = {"breaker": "check/nccl@1"}
        value = life.controller.metrics.registry.get_sample_value
        eventually(lambda: value(Fleet.BREAKER_OPEN.name, key) == 1, "the breaker shows as open")
        last = max(set(broken) - cordoned)
        acts.cordon(world.admin, last, HumanAct("olga", "by hand", time.time()))  # people are not stopped
        _passes(world, cordoned, 1)
        ahead[0] += 15 * 60 + 1
        life.controller._resync_at = 0.0
        eventually(lambda: not any(_one(world, name).cached.unschedulable for name in cordoned), "the good ones return")
        assert _one(world, last).state == "held"
    finally:
        life.stop()


def _one(world: World, name: str) -> NodeInfo:
    return acts.one(world.admin, name)


def _blocked(life: Life) -> int:
    """As the server answered to the controller's own writes: to list 2,048 nodes again and again takes the time of both."""
    return sum(
        1 for cached in life.controller.state.nodes.all() if cached.record is not None and cached.record.blocked is not None
    )


def _passes(world: World, names: set[str], number: int) -> None:
    def all_passed() -> bool:
        records = [_one(world, name).cached.record for name in names]
        return all(record is not None and len(record.passes) == number for record in records)

    eventually(all_passed, f"{number} passed tests each")


def test_two_replicas_are_small_and_quiet(fleet: list[str], replicas: list[tuple[subprocess.Popen[bytes], int]]) -> None:
    """A round over every node, peak memory of each process, and requests of both together while nothing happens."""

    def leads() -> bool:
        try:
            return sum(scrape(port).get(Fleet.LEADER.name, 0) for _, port in replicas) == 1
        except OSError:
            return False

    eventually(leads, "one of them leads", 60)
    eventually(lambda: max(scrape(p).get(f"{Fleet.RECONCILE.name}_count", 0) for _, p in replicas) >= 1, "a round", 60)
    time.sleep(3)
    before, began = sum(requests(port) for _, port in replicas), time.monotonic()
    time.sleep(20)
    rate = (sum(requests(port) for _, port in replicas) - before) / (time.monotonic() - began)
    memory = max(rss_mib(process) for process, _ in replicas)
    first = max(scrape(port).get(f"{Fleet.RECONCILE.name}_sum", 0.0) for _, port in replicas)
    print(f"{SIZE} nodes: {memory:.0f} MiB peak, {rate:.2f} requests/s idle for both, {first:.2f} s for all rounds so far")
    assert rate <= 5 and memory < 200 and first < 5


def test_a_cold_start_decides_for_all(world: World, fleet: list[str]) -> None:
    """From nothing to a decision for each of the nodes: lists, election and the first round."""
    began = time.monotonic()
    life = Life(world.controller(), Settings.checked(QUICK))
    try:
        value = life.controller.metrics.registry.get_sample_value
        eventually(lambda: (value(Fleet.RECONCILE_TIME.name) or 0) > 0, "a full round", 60)
        cold = time.monotonic() - began
        began = time.monotonic()
        life.controller.round(set(fleet), resync=True)
        print(f"cold start {cold:.2f} s, a full round {time.monotonic() - began:.2f} s")
        assert cold < 5 + 1 and len(life.controller.state.nodes) >= SIZE  # a second is the wait for the Lease
        assert time.monotonic() - began < 5
    finally:
        life.stop()


class Sights:
    """When each node was first seen cordoned."""

    def __init__(self, api: Api) -> None:
        self.cordoned: dict[str, float] = {}
        listing = api.get(NODES, {"limit": "1"})
        self._watch = api.watch(NODES, listing["metadata"]["resourceVersion"], {}, 3600)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for kind, node in self._watch:
            if kind == "MODIFIED" and node["spec"].get("unschedulable"):
                self.cordoned.setdefault(node["metadata"]["name"], time.time())

    def stop(self) -> None:
        self._watch.close()


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def test_latency_among_all_nodes(world: World, cluster: Cluster, fleet: list[str]) -> None:
    """Bad verdicts on nodes of the full fleet, at random moments: each is answered within a second, twice."""
    sights, said, uids = Sights(world.admin), {}, {}
    life = Life(world.controller(), Settings.checked({**QUICK, "policy": WIDE}))
    try:
        eventually(lambda: life.controller.election.leading and life.controller.state.synced, "it leads", 60)
        gaps = random.Random(1)
        chosen = gaps.sample(fleet, min(VERDICTS, SIZE // 4))
        for name in chosen:
            old = world.admin.items(pods_path(TRAINING), {"fieldSelector": f"spec.nodeName={name}"})[0]
            cluster._end(old)
        for name in chosen:

            def accuse(name: str = name) -> str:
                said[name] = time.time()
                return encode(bad_verdict())

            cluster.behaviours[name].message, cluster.behaviours[name].test = accuse, lambda: None
            pod = gated_pod(TRAINING, f"late-{name}", 0, POOL, name)
            uids[name] = world.admin.create(pods_path(TRAINING), pod)["metadata"]["uid"]
            time.sleep(gaps.expovariate(10.0))
        eventually(lambda: all(uid in cluster.deleted_at for uid in uids.values()), "all removed", 120)
        cordon = [sights.cordoned[name] - said[name] for name in chosen]
        delete = [max(0.0, cluster.deleted_at[uids[name]] - sights.cordoned[name]) for name in chosen]
        print(f"{len(chosen)} verdicts: to the cordon p50 {sorted(cordon)[len(cordon) // 2]:.3f} s p99 {p99(cordon):.3f} s;"
              f" to the deletion p50 {sorted(delete)[len(delete) // 2]:.3f} s p99 {p99(delete):.3f} s")  # fmt: skip
        assert p99(cordon) < 1 and p99(delete) < 1
    finally:
        life.stop()
        sights.stop()
