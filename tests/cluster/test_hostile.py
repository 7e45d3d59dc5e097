"""What nobody meant to send, on a real API server: words of any shape, a new machine under an old name, records of another
version, wrong clocks, a full disk. The controller goes on, and does what it would have done without."""

from __future__ import annotations

import errno
import json
import time

import pytest

from lehr.infra.controller import node_commands as acts
from lehr.infra.controller.objects import NODE, PROGRESS
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import HumanAct
from lehr.infra.kube.api import NODES, Object
from lehr.monitoring.metrics import Fleet
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.kubelet import Cluster, bad_verdict, pods_path
from tests.cluster.objects import gated_pod, make_node
from tests.cluster.scenario import BASE, Life, Scenario
from tests.cluster.test_faults_others import _delete
from tests.cluster.test_life import PASS, PATIENT, Clock, start
from tests.cluster.test_trainer import JOBS, pod_on
from tests.infra.test_parsers import WORDS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def accuse(world: World, cluster: Cluster, run: Scenario, number: int, name: str) -> None:
    """The next pod on this node fails its preflight, and the controller must act on it."""
    node = run.nodes[number]
    cluster.behaviours[node].message = lambda: encode(bad_verdict())
    cluster.behaviours[node].test = lambda: None
    world.admin.create(pods_path(TRAINING), gated_pod(TRAINING, f"{run.pool}-{name}", 0, run.pool, node))
    eventually(lambda: run.node(node).cordon is not None, f"{node} is cordoned")


def test_words_of_any_shape(world: World, cluster: Cluster) -> None:
    """In annotations, termination messages, verdicts and records of nodes: whoever writes them harms nobody else."""
    huge = json.loads(encode(bad_verdict())) | {"detail": "\x1b[2J" + "x" * 200_000}
    with Scenario(world, cluster, bad=()) as run:
        life = run.live()
        for number, words in enumerate(WORDS):
            pod = pod_on(world, run, run.nodes[1 + number % 2], number)
            path = pods_path(TRAINING, pod["metadata"]["name"])
            pod = world.admin.merge(path, {"metadata": {"annotations": {PROGRESS: words}}})
            cluster.exit_main(pod, NAMES.exit_restart, words)
            world.admin.merge(f"{NODES}/{run.nodes[3]}", {"metadata": {"annotations": {NAMES.record_annotation: words}}})
        accuse(world, cluster, run, 0, "after")
        cluster.behaviours[run.nodes[1]].message = lambda: json.dumps(huge)
        world.admin.create(pods_path(TRAINING), gated_pod(TRAINING, f"{run.pool}-huge", 0, run.pool, run.nodes[1]))
        eventually(lambda: run.node(run.nodes[1]).cordon is not None, "a verdict of 200 kB cordons as any other")
        cordon = run.node(run.nodes[1]).cordon
        assert cordon is not None and len(cordon.detail) <= 500 and cordon.detail.isprintable()
        assert len(run.node(run.nodes[1]).cached.annotations[NAMES.record_annotation]) < 10_000
        value = life.controller.metrics.registry.get_sample_value
        assert value(f"{Fleet.ERRORS.name}", {"reason": "bug"}) is None
        assert not any(run.node(name).cached.unschedulable for name in run.nodes[2:])


def test_a_new_machine_under_an_old_name(world: World, cluster: Cluster) -> None:
    """It is given neither the passes of the old machine's Jobs nor the reports about it."""
    with Scenario(world, cluster, bad=(0,)) as run:
        name = run.nodes[0]
        run.live(policy=PATIENT["policy"])
        accuse(world, cluster, run, 0, "old")
        eventually(lambda: run.node(name).state == "revalidating" and _jobs(world, name), "the old machine is tested")
        (old,) = _jobs(world, name)
        acts.report(world.admin, TRAINING, name, "smells of smoke", "admin")
        world.admin._json(_delete(f"{NODES}/{name}"))  # type: ignore[arg-type]
        eventually(lambda: not world.admin.items(NODES, {"fieldSelector": f"metadata.name={name}"}), "it is gone")
        cluster.behaviours[name].message = lambda: PASS
        time.sleep(1.01)  # the server's times are whole seconds
        make_node(world.admin, name, run.pool)
        eventually(lambda: old not in _jobs(world, name), "nobody waits for the old machine's Job")
        assert run.node(name).state == "healthy" and not run.node(name).cached.unschedulable, run.node(name).reason
        accuse(world, cluster, run, 0, "new")
        eventually(lambda: _jobs(world, name), "the new machine is tested")
        record = run.node(name).cached.record
        assert record is not None and not record.passes and old not in _jobs(world, name) and record.attempt == 1


def _jobs(world: World, node: str) -> list[str]:
    return [_name(job) for job in world.admin.items(JOBS) if job["metadata"]["annotations"][NODE] == node]


def _name(item: Object) -> str:
    return str(item["metadata"]["uid"])


def test_controllers_of_two_versions(world: World, cluster: Cluster) -> None:
    """The newer one wrote a state that this one does not know: the cordon stays ours, and the node is tested and returns."""
    clock = Clock()
    with Scenario(world, cluster, bad=(0,)) as run:
        name = run.nodes[0]
        life = run.live(policy=PATIENT["policy"])
        accuse(world, cluster, run, 0, "x")
        life.stop()
        record = json.loads(run.node(name).cached.annotations[NAMES.record_annotation]) | {"state": "dismantled", "more": [1]}
        world.admin.merge(f"{NODES}/{name}", {"metadata": {"annotations": {NAMES.record_annotation: json.dumps(record)}}})
        cluster.behaviours[name].test = lambda: PASS
        start(run, clock)
        eventually(lambda: (r := run.node(name).cached.record) is not None and len(r.passes) == 1, "tested")
        assert run.node(name).cordon is not None and run.node(name).hold is None
        clock.ahead += 15 * 60 + 1
        eventually(lambda: run.node(name).state == "healthy" and not run.node(name).cached.unschedulable, "back in service")


def test_wrong_clocks(world: World, cluster: Cluster) -> None:
    """Half a day ahead, then a day behind: bad nodes are cordoned, a hold ends when it should, nobody else is touched."""
    clock = Clock()
    with Scenario(world, cluster, bad=()) as run:
        start(run, clock)
        clock.ahead = 43_200
        accuse(world, cluster, run, 0, "ahead")
        clock.ahead = -86_400
        accuse(world, cluster, run, 1, "behind")
        acts.cordon(world.admin, run.nodes[4], HumanAct("olga", "a short look", clock(), clock() + 1))
        eventually(lambda: not run.node(run.nodes[4]).cached.unschedulable, "the hold ends by itself")
        assert not any(run.node(name).cached.unschedulable for name in run.nodes[2:])


def test_a_full_disk_under_the_decision_log(world: World, cluster: Cluster) -> None:
    def full(line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Scenario(world, cluster, bad=(0,)) as run:
        life = Life(world.controller(), Settings.checked(BASE), write=full)
        run.lives.append(life)
        run.submit()
        run.wait()
        run.check()
        assert life.controller.metrics.registry.get_sample_value(Fleet.ERRORS.name, {"reason": "decision-log"})
