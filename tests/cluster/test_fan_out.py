"""A thousand shards on Flyte's own engine, at most 64 pods at once, each pod a process: a map task as a workflow of one's own
has it, with Lehr's pod template and `owned` around each element. Pods are forked from a warm process (warm_pods.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from tests.cluster.engine import Paid, package
from tests.cluster.engine_place import Place, place
from tests.cluster.engine_tasks import AT_ONCE
from tests.cluster.warm_pods import WarmPods

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(3600)]
SHARDS, RUN, TASKS = 1000, "shards", "tests.cluster.engine_tasks"
LIMIT_SECONDS = 3300.0


@pytest.fixture
def flyte(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "place", WarmPods) as made:
        yield made


def test_a_thousand_shards_in_at_most_64_pods(flyte: Place, tmp_path: Path) -> None:
    begun, most = time.monotonic(), 0
    flyte.engine.start(RUN, package(tmp_path, (TASKS,)), f"{TASKS}.shards", {"kinds": ["well"] * SHARDS})
    while not (phase := flyte.engine.phase(RUN)) and not flyte.pods.errors and time.monotonic() - begun < LIMIT_SECONDS:
        most = max(most, sum("primary" not in pod.ended for pod in flyte.pods.of(RUN)))
        time.sleep(0.2)
    assert not flyte.pods.errors
    pods = flyte.pods.of(RUN)
    seconds = time.monotonic() - begun
    print(f"{len(pods)} pods in {seconds:.0f} s, {most} at once")
    assert phase == "succeeded", f"{len(pods)} pods after {seconds:.0f} s\n{flyte.why(RUN)[-6000:]}"
    assert AT_ONCE // 2 < most <= AT_ONCE
    assert len(pods) == SHARDS and {pod.ended["primary"]["exitCode"] for pod in pods} == {0}
    assert not [cost for cost in flyte.engine.costs[RUN].values() if cost != Paid(0, 0)]
