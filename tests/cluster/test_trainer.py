"""What trainers say at their end, all the way: exit code, pod status, the controller's evidence, its acts.

The trainers are real processes (tests/tasks/trainer.py); the tests of links are real Jobs, placed by the real scheduler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.infra.controller.objects import NODE, ROLE
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import CheckResult, Outcome, Verdict
from lehr.infra.kube.api import Object
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.faults import Plan
from tests.cluster.kubelet import Cluster, pods_path
from tests.cluster.objects import gated_pod
from tests.cluster.scenario import Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
JOBS = f"/apis/batch/v1/namespaces/{NAMES.namespace}/jobs"


@pytest.fixture(scope="module")
def termination_details(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and termination message of a trainer whose device fails and of one that hangs."""
    running = {}
    for how in ("device", "hang"):
        folder = tmp_path_factory.mktemp(how)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEHR_WATCHDOG_SECONDS": "1"}
        environment["LEHR_TERMINATION_LOG"] = str(folder / "log")
        command = [sys.executable, "-m", "tests.tasks.trainer", str(folder), how]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running[how] = (folder / "log", subprocess.Popen(command, cwd=ROOT, env=environment, **quiet))
    return {how: (process.wait(500), log.read_text()) for how, (log, process) in running.items()}


def pod_on(world: World, run: Scenario, node: str, number: int) -> Object:
    """A running pod of an execution of its own, which nobody restarts."""
    pod = gated_pod(TRAINING, f"{run.pool}-x{number}", 0, run.pool, node)
    pod["metadata"]["labels"]["retry"] = "no"
    path = pods_path(TRAINING, world.admin.create(pods_path(TRAINING), pod)["metadata"]["name"])
    eventually(lambda: world.admin.get(path)["status"].get("phase") == "Running", "the pod runs")
    return world.admin.get(path)


def test_a_device_error_of_the_trainer_accuses_its_node(
    world: World, cluster: Cluster, termination_details: dict[str, tuple[int, str]]
) -> None:
    """However often: a suspect. With a check that failed once: a quarantine that names the run, its step and what it cost."""
    code, message = termination_details["device"]
    assert code == NAMES.exit_suspect
    with Scenario(world, cluster, bad=()) as run:
        cluster.behaviours[run.nodes[0]].test = lambda: None
        run.live()
        node = run.nodes[0]
        cluster.exit_main(pod_on(world, run, node, 0), code, message)
        eventually(lambda: run.node(node).state == "suspect", "a suspect")
        record = run.node(node).cached.record
        assert record is not None and [s.reason for s in record.signals] == ["NodeSuspectedByTrainer"]
        cluster.exit_main(pod_on(world, run, node, 1), code, message)
        doubted = run.nodes[1]
        failed = CheckResult("matmul", Outcome.HARDWARE_FAILURE, "MatmulMismatch")
        once = encode(Verdict(Outcome.INCONCLUSIVE, "1", results=(failed,)))
        cluster.behaviours[doubted].message, cluster.behaviours[doubted].test = lambda: once, lambda: None
        cluster.exit_main(pod_on(world, run, doubted, 2), code, message)
        eventually(lambda: run.node(doubted).cordon is not None, "quarantined")
        assert run.node(node).cordon is None and run.node(node).state == "suspect"
        cordon = run.node(doubted).cordon
        assert cordon is not None and (cordon.source, cordon.reason) == ("trainer", "NodeSuspectedByTrainer")
        assert (cordon.run, cordon.rank, cordon.step) == ("tiny-olmo2", 0, 10) and cordon.checkpoint_step in (4, 8)
        assert cordon.execution == f"{run.pool}-x2" and cordon.gpu_hours_lost is not None and cordon.gpu_hours_lost >= 0
        assert not any(run.node(name).cached.unschedulable for name in run.nodes if name != doubted)


def test_a_hang_on_one_node_makes_it_a_suspect(
    world: World, cluster: Cluster, termination_details: dict[str, tuple[int, str]]
) -> None:
    code, message = termination_details["hang"]
    assert code == NAMES.exit_hang
    with Scenario(world, cluster, bad=()) as run:
        cluster.behaviours[run.nodes[0]].test = lambda: None
        run.live()
        cluster.exit_main(pod_on(world, run, run.nodes[0], 0), code, message)
        eventually(lambda: run.node(run.nodes[0]).state == "suspect", "a suspect")
        record = run.node(run.nodes[0]).cached.record
        assert record is not None and [(s.source, s.reason) for s in record.signals] == [("trainer", "HangDetected")]
        assert not run.node(run.nodes[0]).cached.unschedulable


@pytest.mark.parametrize("broken", ["link", "port", "nothing"])
def test_a_hang_of_several_nodes_finds_the_bad_link(
    world: World, cluster: Cluster, termination_details: dict[str, tuple[int, str]], broken: str
) -> None:
    """Pair Jobs take two idle nodes each, wherever the controller dies; one node goes, the others are cleared."""
    words = {**json.loads(termination_details["hang"][1]), "nodes": 3}
    seen: list[Object] = []
    with Scenario(world, cluster, bad=(), spares=1) as run:
        gang, network = run.nodes[:3], cluster.network
        network.tests.clear()
        network.ports = {gang[1]} if broken == "port" else set()
        network.links = {frozenset((gang[0], gang[2]))} if broken == "link" else set()
        for plan in (Plan(crash_on="POST"), Plan(crash_on="POST", crash_after=True), None):
            life = run.live(plan, policy={"startup_grace_seconds": 0})
            if plan is None:
                break
            if not run.lives[1:]:
                _hang_together(world, cluster, run, gang, words)
            life.crashed(30)
            life.stop()
        world_jobs = lambda: seen.extend(world.admin.items(JOBS)) or True
        wanted = {"link": {gang[2]: "BadLink"}, "port": {gang[1]: "NetworkFault"}, "nothing": {}}[broken]

        def settled() -> bool:
            world_jobs()
            states = {name: run.node(name) for name in run.nodes}
            cordons = {name: node.cordon.reason for name, node in states.items() if node.cordon is not None}
            return cordons == wanted and all(
                n.state == ("repair" if name in wanted else "healthy") for name, n in states.items()
            )

        eventually(settled, f"{wanted} in repair and the others healthy")
        assert len({tuple(t[:2]) for t in network.tests}) >= {"link": 3, "port": 3, "nothing": 3}[broken], network.tests
        for name in wanted:
            assert NAMES.repair_annotation in run.node(name).cached.annotations
        _occupied_both(seen)
        eventually(lambda: not world.admin.items(JOBS), "Jobs whose result is counted are deleted")


def _hang_together(world: World, cluster: Cluster, run: Scenario, gang: list[str], words: Object) -> None:
    pods = [pod_on(world, run, name, number) for number, name in enumerate(gang)]
    for pod in pods:
        labels = {"execution-id": f"{run.pool}-gang"}
        path = pods_path(TRAINING, pod["metadata"]["name"])
        changed = world.admin.merge(path, {"metadata": {"labels": labels}})
        cluster.exit_main(changed, NAMES.exit_hang, json.dumps(words))


def _occupied_both(seen: list[Object]) -> None:
    """Each side asks for all GPUs of its node, and for that node alone."""
    roles: dict[tuple[str, str], set[str]] = {}
    for job in seen:
        notes, spec = job["metadata"]["annotations"], job["spec"]["template"]["spec"]
        container = spec["containers"][0]
        assert container["command"][-1] == "lehr.infra.pod.probes.pair"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        place = terms[0]["matchFields"][0]["values"][0]
        assert (place == notes[NODE]) == (notes[ROLE] == "listen")
        roles.setdefault((notes[NODE], notes["lehr.dev/attempt"]), set()).add(notes[ROLE])
    assert {"listen", "connect"} in roles.values()
