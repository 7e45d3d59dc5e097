"""Stages on several nodes without Flyte, as people and the driver find them: rows, logs, Jobs, and too few nodes."""

from __future__ import annotations

from typing import Any

import pytest

from lehr.infra.jobs.checks import check_nodes
from lehr.infra.jobs.drive import RunJobs
from lehr.infra.jobs.submission import ATTEMPT, INDEX, Submission
from lehr.infra.jobs.submitted import LogOf, log, states
from lehr.infra.pod.pod_request import PodRequest
from lehr.runtime.errors import UserError
from tests.infra.test_attempts import FAILED
from tests.infra.test_jobs import ended, pod

Object = dict[str, Any]


class Server:
    """An API server's lists."""

    def __init__(self, jobs: list[Object], pods: list[Object]) -> None:
        self.jobs, self.pods = jobs, pods

    def get(self, path: str) -> Object:
        return self.jobs[0]

    def items(self, path: str, chosen: Any = None) -> list[Object]:
        return self.jobs if "/jobs" in path else self.pods

    def text(self, path: str, query: Any) -> str:
        return path


def job(name: str, stage: str, number: int = 0, conditions: Any = (), **status: Any) -> Object:
    labels = {"lehr.dev/stage": stage, "lehr.dev/run": "r"} | ({ATTEMPT: str(number)} if number else {})
    owners = [] if stage == "driver" else [{"uid": "driver"}]
    meta = {
        "name": name,
        "uid": name,
        "labels": labels,
        "ownerReferences": owners,
        "creationTimestamp": f"2026-12-01T10:00:{number:02}Z",
    }
    spec = {"completionMode": "Indexed"} if number else {}
    return {"metadata": meta, "spec": spec, "status": {"conditions": list(conditions), **status}}  # fmt: skip


def owned(made: Object, by: str, index: int) -> Object:
    made["metadata"] |= {
        "ownerReferences": [{"uid": by}],
        "creationTimestamp": "2026-12-01T10:00:09Z",
        "labels": {INDEX: str(index)},
    }
    return {**made, "spec": {"nodeName": f"node-{index}"}}  # fmt: skip


ATTEMPTS = [
    job("driver", "driver", active=1),
    job("s-1", "s", 1, [{**FAILED[0], "type": "Failed"}]),
    job("s-2", "s", 2, active=2),
]


def test_the_driver_finds_the_newest_of_several_attempts() -> None:
    pods = [owned(pod("s-1-0"), "s-1", 0), owned(pod("s-2-0", "Running"), "s-2", 0)]
    jobs = RunJobs(Server([ATTEMPTS[0], ATTEMPTS[2], ATTEMPTS[1]], pods), Submission("r", "n", "", {}, ""))  # type: ignore[arg-type]
    found = jobs.look()["s"]
    assert found.attempt == 2 and [one.attempt for one in found.earlier] == [1]
    assert set(found.pods) == {"s-2-0"} and set(found.earlier[0].pods) == {"s-1-0"}


def test_status_has_a_row_for_a_stage_with_its_pods_counted() -> None:
    first = [owned(pod("s-1-1", **ended("primary", 137)), "s-1", 1)]
    waits = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]}
    pods = [*first, owned(pod("s-2-0", "Running"), "s-2", 0), owned(pod("s-2-1", "Pending", **waits), "s-2", 1)]
    row = states(Server(ATTEMPTS, pods), "n", "r")[1]  # type: ignore[arg-type]
    assert (row.stage, row.state, row.pods, row.pod, row.said) == ("s", "waiting", 3, "s-2-1", "no room")
    pods[2]["status"] = {"phase": "Running"}
    row = states(Server(ATTEMPTS, pods), "n", "r")[1]  # type: ignore[arg-type]
    assert (row.state, row.pods, row.pod, row.node, row.said) == ("running", 3, "s-2-0", "node-0", "")
    row = states(Server(ATTEMPTS[:2], first), "n", "r")[1]  # type: ignore[arg-type]
    assert (row.state, row.said) == ("waiting", "exit code 137"), "the driver makes the next attempt"
    over = job("driver", "driver", conditions=[{"type": "Failed", "status": "True"}])
    assert states(Server([over, ATTEMPTS[1]], first), "n", "r")[1].state == "failed"  # type: ignore[arg-type]


def test_pods_that_kubernetes_has_deleted_with_a_failed_attempt_are_counted() -> None:
    """One was killed and replaced; then one made a mistake, and the two others are gone."""
    pods = [owned(pod("s-1-1", **ended("primary", 137)), "s-1", 1), owned(pod("s-1-0", **ended("primary", 2)), "s-1", 0)]
    over = job("driver", "driver", conditions=[{"type": "Failed", "status": "True"}])
    for kind, counts in (
        ("FailureTarget", {"failed": 1, "terminating": 2}),
        ("FailureTarget", {"failed": 1, "terminating": 1, "uncountedTerminatedPods": {"failed": ["x"]}}),
        ("Failed", {"failed": 3}),
    ):
        failed = job("s-1", "s", 1, [{"type": kind, "status": "True", "message": "m"}], **counts)
        assert states(Server([over, failed], pods), "n", "r")[1].pods == 4, kind  # type: ignore[arg-type]


def test_the_log_is_rank_0s_unless_another_is_asked_for() -> None:
    server = Server(ATTEMPTS, [owned(pod(f"s-2-{n}", "Running"), "s-2", n) for n in (1, 0)])
    for index in (0, 1):
        assert next(log(server, "n", LogOf("r", "s", "", index=index))) == f"s-2-{index}:"  # type: ignore[arg-type]
    with pytest.raises(UserError, match="r has no pod 2 of s"):
        next(log(server, "n", LogOf("r", "s", "", index=2)))  # type: ignore[arg-type]


def test_too_few_nodes_are_said_and_gpus_that_no_node_has_are_refused() -> None:
    nodes = [{"status": {"allocatable": {"nvidia.com/gpu": amount}}} for amount in ("8", "8", "4")]
    server: Any = Server([], nodes)
    assert not check_nodes(
        server, {"a": PodRequest(), "b": PodRequest(nodes=3), "c": PodRequest(gpus=8, nodes=2)}, "nvidia.com/gpu"
    )
    assert "3 nodes" in check_nodes(server, {"a": PodRequest(gpus=8, nodes=2, spares=1)}, "nvidia.com/gpu")
    said = check_nodes(server, {"a": PodRequest(gpus=8, nodes=3)}, "nvidia.com/gpu")
    assert said == "a asks for 3 nodes with 8 GPUs, and there are 2: it will wait for more"
    with pytest.raises(UserError, match=r"a asks for 9 GPUs, and no node has more than 8 of nvidia\.com/gpu"):
        check_nodes(server, {"a": PodRequest(gpus=9)}, "nvidia.com/gpu")
