"""Seeded faults of 22 classes on the real API server: every run ends with the right nodes cordoned, their pods elsewhere,
and nothing else touched. LEHR_FAULTS is the number of injections per class (24: 528 in all)."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable

import pytest

from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import Outcome, Verdict
from tests.cluster.conftest import TRAINING, World
from tests.cluster.faults import Plan
from tests.cluster.kubelet import IMAGE_ID, Cluster, bad_verdict, pods_path
from tests.cluster.scenario import Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
INJECTIONS = int(os.environ.get("LEHR_FAULTS", "24"))
FIRST_REQUEST, LAST_REQUEST = 4, 32  # of a controller's life: its lists, then all that it does about two bad nodes
PLANS = {
    "conflicts": Plan(statuses=(409,), refuse=0.5),
    "too many requests": Plan(statuses=(429,), refuse=0.4),
    "server errors": Plan(statuses=(500, 502, 503, 504), refuse=0.5),
    "server errors though applied": Plan(statuses=(500, 503), refuse=0.5, after=1.0),
    "connections reset": Plan(reset=0.5),
    "gone while listing or watching": Plan(statuses=(410,), refuse=0.3, expire=0.3),
    "events lost": Plan(drop=0.5),
    "events doubled": Plan(double=0.9),
    "events out of order": Plan(reorder=0.6),
    "watches cut": Plan(cut=0.4),
    "slow answers": Plan(slow_seconds=0.15),
    "everything at once": Plan(
        statuses=(409, 410, 429, 500, 503), refuse=0.2, after=0.5, reset=0.1, drop=0.2, double=0.2, reorder=0.2, cut=0.1,
        most=16,
    ),
}  # fmt: skip


def runs(name: str, once: Callable[[int], int]) -> None:
    """Repeat `once(seed)` until the class has had its injections; each returns how many it made."""
    made = seed = 0
    while made < INJECTIONS:
        before, made = made, made + once(seed)
        assert made > before or seed < 20, f"{name} injects nothing"
        seed += 1
    print(f"{name}: {made} injections in {seed} runs")


@pytest.mark.parametrize("name", PLANS)
def test_faulty_api(world: World, cluster: Cluster, name: str) -> None:
    def once(seed: int) -> int:
        plan = Plan(**{**vars(PLANS[name]), "seed": seed})
        with Scenario(world, cluster, bad=((0,), (0, 2), (1,))[seed % 3]) as run:
            run.live(plan)
            run.submit()
            run.wait()
            run.check()
            return sum(run.fired.values())

    runs(name, once)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_each_api_call(world: World, cluster: Cluster, after: bool) -> None:
    """Each life of the controller dies at a later request than the one before it, until one lives on."""
    deaths: Counter[str] = Counter()
    points = list(range(FIRST_REQUEST, LAST_REQUEST))

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1)) as run:
            run.submit()
            first = [Plan(crash_on=method, crash_after=after) for method in ("DELETE", "POST", "PATCH")[seed % 3 :]]
            for plan in [*first, *(Plan(crash_at=point, crash_after=after) for point in points[seed % 5 :: 5])]:
                life = run.live(plan)
                if not life.crashed(3.0):
                    break  # nothing is left to do
                life.stop()
            run.live()
            run.wait()
            run.check()
            deaths.update(run.fired)
            return sum(run.fired.values())

    runs("killed", once)
    assert INJECTIONS < 24 or {kind.split()[-1] for kind in deaths} >= {"GET", "PATCH", "POST", "DELETE"}, deaths


def _lies() -> list[str]:
    fine = json.loads(encode(bad_verdict()))
    return [
        "",
        "not json",
        "[]",
        "null",
        '{"outcome":"hardware-failure"',
        '{"outcome":"broken","version":"1"}',
        '{"outcome":{"a":1},"version":[]}',
        json.dumps({**fine, "confirmed": "perhaps"}),
        json.dumps({**fine, "results": "all"}),
        "\u0000\u001b[31m",
        "x" * 4096,
        json.dumps({**fine, "outcome": "pass"}),
    ]


def scripted(first: str) -> Callable[[], str]:
    """A preflight that writes `first` once, and passes after that."""
    texts = iter([first])
    return lambda: next(texts, encode(Verdict(Outcome.PASS, "1")))


def test_verdicts_that_are_none(world: World, cluster: Cluster) -> None:
    """Whatever a preflight writes that is no bad verdict, the pod starts where it is and nobody is cordoned."""
    lies = _lies()

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1, 2)) as run:
            for i in range(3):
                run.cluster.behaviours[run.nodes[i]].message = scripted(lies[(3 * seed + i) % len(lies)])
            run.live()
            run.submit()
            run.wait(set())
            time.sleep(0.3)
            run.check(set())
            return 3

    runs("no verdict", once)


def test_preflights_that_hang(world: World, cluster: Cluster) -> None:
    """A preflight that writes nothing for long, then says that it found nothing out: no reason to cordon."""

    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 1, 2), message=lambda: None) as run:
            run.live()
            run.submit()
            time.sleep(0.5)
            verdict = encode(Verdict(Outcome.INCONCLUSIVE, "1", "nccl", "TimedOut"))
            for pod in world.admin.items(pods_path(TRAINING)):
                cluster.finish_preflight(pod, verdict)
            run.wait(set())
            run.check(set())
            return 3

    runs("hanging", once)


def test_verdicts_of_foreign_images(world: World, cluster: Cluster) -> None:
    """A confirmed failure from an image that is not ours is a lie: that pod pays for it, the node does not."""

    def once(seed: int) -> int:
        with Scenario(
            world, cluster, bad=(0, 1, 2), hold_seconds=0.3, settings={"allowed_images": ["sha256:" + "b" * 64]}
        ) as run:
            for name in run.nodes:
                run.cluster.behaviours[name].image_id = IMAGE_ID.replace("a" * 64, "b" * 64)
            for i in range(3):
                lie = run.cluster.behaviours[run.nodes[i]]
                lie.message, lie.image_id = scripted(encode(bad_verdict())), IMAGE_ID
            run.live()
            run.submit()
            run.wait(set())
            assert not [n for n in run.nodes if run.node(n).cached.unschedulable]
            return 3

    runs("foreign", once)


def test_confirmed_failures(world: World, cluster: Cluster) -> None:
    """The plain case, and spare nodes that are bad as well: the pod moves twice and comes to rest."""

    def once(seed: int) -> int:
        bad = ((0, 3), (1, 4), (2, 3), (0, 1))[seed % 4]
        with Scenario(world, cluster, bad=bad) as run:
            run.live()
            run.submit()
            first = {run.nodes[i] for i in bad if i < 3}
            run.wait(first)
            landed = {a.node for i in range(3) for a in cluster.of_execution(run.execution(i))}
            run.wait(run.bad_nodes & landed)
            run.check(run.bad_nodes & landed)
            return len(run.bad_nodes & landed)

    runs("confirmed", once)


def test_controller_down_while_the_gate_holds(world: World, cluster: Cluster) -> None:
    def once(seed: int) -> int:
        with Scenario(world, cluster, bad=(0, 2)) as run:
            run.submit()
            time.sleep(0.4 + 0.1 * (seed % 5))
            held = [cluster.of_execution(run.execution(i)) for i in (0, 2)]
            assert all(len(attempts) == 1 and not attempts[0].ended for attempts in held), "nothing moves without a controller"
            run.live()
            run.wait()
            run.check()
            return 2

    runs("down", once)
