"""What the controller says of the fleet and of runs' pods, from the objects of the API as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import METRICS_PORT, pod_object
from lehr.infra.controller.reconciler import Controller
from lehr.infra.controller.run_pods import RunPods
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES
from lehr.infra.fleet.views import CordonRecord, NodeRecord, NodeState, NodeView
from lehr.infra.kube.api import Object
from lehr.infra.pod.pod_template import METRICS_PORT_NAME
from lehr.monitoring.metrics import Fleet, Metric
from lehr.monitoring.metrics.fleet import RUNS_SHOWN
from tests.infra.world import pod as held

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
VERDICT = '{"outcome": "pass", "version": "1", "finished_at": 0}'


def at(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"2026-01-01T12:{minutes:02d}:{rest:02d}Z"


def pod(name: str, run: str = "a", began: float = 0, ended: float | None = 45, **changed: Any) -> Object:
    """A pod whose preflight began and whose gate let it pass so many seconds after noon; None: not yet."""
    done = ended is not None
    preflight: Object = {"running": {"startedAt": at(began)}}
    if done:
        preflight = {"terminated": {"startedAt": at(began), "finishedAt": at(ended or 0), "exitCode": 0, "message": VERDICT}}
    inits = [{"name": NAMES.preflight_container, "state": preflight}]
    if done:
        gate = {"startedAt": at(ended or 0), "finishedAt": at(ended or 0), "exitCode": 0}
        inits.append({"name": NAMES.gate_container, "state": {"terminated": gate}})
    main = {"name": "primary", "state": {"running": {"startedAt": at(ended or 0)}} if done else {"waiting": {}}}
    return {
        "metadata": {"namespace": "t", "name": name, "uid": name, "resourceVersion": "1", "labels": {NAMES.run_label: run}},
        "spec": {"nodeName": "n", "containers": [{"name": "primary", "ports": [{"name": METRICS_PORT}]}]},
        "status": {"phase": "Running", "initContainerStatuses": inits, "containerStatuses": [main]} | changed,
    }


class Seen:
    """Shows pods as the controller does, and reads what a scraper would."""

    def __init__(self) -> None:
        self.metrics = ControllerMetrics()
        self.runs = RunPods(self.metrics)

    def show(self, *pods: Object, now: float = 0.0) -> None:
        self.runs.show([pod_object(item, GPU_RESOURCE, ()) for item in pods], NOON + now)

    def value(self, metric: Metric, suffix: str = "", **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"{metric.name}{suffix}", labels)


def test_the_port_is_the_one_that_pods_have() -> None:
    assert METRICS_PORT == METRICS_PORT_NAME


def test_a_preflight_is_observed_once_when_it_has_ended() -> None:
    seen = Seen()
    seen.show(pod("p", ended=None), now=10)
    assert seen.value(Fleet.PREFLIGHT, "_count", outcome="pass") is None
    assert seen.value(Fleet.RUN_PREFLIGHT, run="a") == 10 and seen.value(Fleet.RUN_PODS, run="a") == 0
    for now in (60, 120):
        seen.show(pod("p"), pod("old", ended=5), now=now)
    assert seen.value(Fleet.PREFLIGHT, "_count", outcome="pass") == 1  # what ended before it began to look is another's
    assert seen.value(Fleet.PREFLIGHT, "_sum", outcome="pass") == 45
    assert seen.value(Fleet.RUN_PREFLIGHT, run="a") == 50 and seen.value(Fleet.RUN_PODS, run="a") == 2


def test_a_pod_that_ended_at_the_gate_counts_until_then() -> None:
    seen = Seen()
    at_gate = {
        "phase": "Failed",
        "containerStatuses": [{"name": "primary", "state": {"terminated": {"exitCode": 171, "finishedAt": at(165)}}}],
    }
    seen.show(pod("p", ended=None, **at_gate), now=900)
    assert seen.value(Fleet.RUN_PREFLIGHT, run="a") == 165 and seen.value(Fleet.RUN_PODS, run="a") == 0


def test_pods_of_nobodys_run_and_pods_without_the_port_are_not_to_be_scraped() -> None:
    seen = Seen()
    driver = pod("d", run="b")
    del driver["spec"]["containers"][0]["ports"]
    seen.show(pod("x", run=""), driver, pod("p"), now=60)
    assert (seen.value(Fleet.RUN_PODS, run="a"), seen.value(Fleet.RUN_PODS, run="b")) == (1, 0)
    assert seen.value(Fleet.RUN_PODS, run="") is None
    seen.show(now=70)
    assert seen.value(Fleet.RUN_PODS, run="a") is None, "a run without pods is gone"


def test_however_many_runs_labels_name_few_become_series() -> None:
    seen = Seen()
    big = [pod(f"big{number}", run="big") for number in range(2)]
    seen.show(*big, *(pod(f"p{number}", run=f"r{number:04d}") for number in range(2 * RUNS_SHOWN)), now=60)
    shown = [s for family in seen.metrics.registry.collect() for s in family.samples if s.name == Fleet.RUN_PODS.name]
    assert len(shown) == RUNS_SHOWN and seen.value(Fleet.RUN_PODS, run="big") == 2


def test_who_no_longer_leads_shows_nothing_and_counts_anew() -> None:
    seen = Seen()
    seen.show(pod("p", ended=None), now=20)
    seen.metrics.show([node("n")], [], NOON)
    seen.metrics.hide()
    seen.runs.lost()
    assert seen.value(Fleet.RUN_PODS, run="a") is None and seen.value(Fleet.SPARES, pool="default") is None
    seen.show(pod("p"), now=60)  # it ended under the other one
    assert seen.value(Fleet.PREFLIGHT, "_count", outcome="pass") is None


def test_a_controller_that_lost_the_lease_hides_what_it_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(None, Settings(namespaces=("t",)))  # type: ignore[arg-type] # nothing is asked of it
    controller.metrics.show([node("n")], [], NOON)
    for leads, shown in ((True, 1.0), (False, None)):
        monkeypatch.setattr(type(controller.election), "leading", property(lambda _, leads=leads: leads))
        controller.state.dirty.add({"n"})
        controller._wait_and_round()
        assert controller.metrics.registry.get_sample_value(Fleet.SPARES.name, {"pool": "default"}) == shown
        assert controller.metrics.registry.get_sample_value(Fleet.LEADER.name) == float(leads)


def node(name: str, **changed: Any) -> NodeView:
    return replace(NodeView(name, gpus=8), **changed)


@pytest.mark.parametrize(
    ("changed", "spares"),
    [
        ({}, 1),
        ({"pods": (held(gpus=8),)}, 0),
        ({"pods": (held(gpus=8, exit_code=0),)}, 1),
        ({"pods": (held(gpus=0),)}, 1),  # it holds no GPU
        ({"ready": False}, 0),
        ({"unschedulable": True}, 0),
        ({"record": NodeRecord(NodeState.SUSPECT, NOON)}, 0),
    ],
)
def test_a_spare_is_healthy_ready_and_free(changed: dict[str, Any], spares: int) -> None:
    seen = Seen()
    seen.metrics.show([node("n", **changed)], [], NOON)
    assert seen.value(Fleet.SPARES, pool="default") == spares


def test_a_node_says_since_when_it_is_away_until_it_is_back() -> None:
    seen = Seen()
    cordon = CordonRecord("c1", "preflight", "r", NOON)
    away = node("n", unschedulable=True, record=NodeRecord(NodeState.QUARANTINED, NOON, "r", cordon))
    person = node("m", unschedulable=True)
    seen.metrics.show([away, person], [], NOON + 60)
    assert seen.value(Fleet.NODE_SINCE, node="n", state="quarantined") == NOON
    assert seen.value(Fleet.NODE_SINCE, node="m", state="held") is None
    seen.metrics.show([node("n"), person], [], NOON + 120)
    assert seen.value(Fleet.NODE_SINCE, node="n", state="quarantined") is None
