"""However much stands about a node, a decision reads a bounded part of it, and no flood hides what others say."""

from __future__ import annotations

from typing import Any

from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.objects import node_object, pod_object, report_object
from lehr.infra.controller.reports import ALL, BETWEEN, OF_A_NODE, OF_A_PERSON, bounded
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import State
from lehr.infra.fleet.actions import Cordon
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import DAY, NAMES, Policy
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.signals import MAX_SIGNALS
from lehr.infra.fleet.views import Disposition, NodeRecord, NodeView
from lehr.infra.kube.api import Api

NOW = 1_800_000_000.0
MANY = 20_000


def report(number: int, by: str, node: str = "n1", at: str = "2027-01-15T07:50:00Z") -> Any:
    meta = {
        "namespace": "t",
        "name": f"r{number}",
        "uid": f"u{number}",
        "resourceVersion": str(number),
        "creationTimestamp": at,
    }
    return report_object({"metadata": meta, "spec": {"node": node, "reason": "slow", "by": by}})


def world() -> State:
    state = State(Api(None), Settings(namespaces=("t",)), ControllerMetrics())  # type: ignore[arg-type] # nothing is asked of it
    meta = {"name": "n1", "uid": "u", "resourceVersion": "1", "labels": {NAMES.managed_label: "true"}}
    state.nodes.put(node_object({"metadata": meta}, "nvidia.com/gpu"))
    return state


def view_of(state: State) -> NodeView:
    return state.refresh({"n1"}, NOW)["n1"]


def test_a_flood_of_reports_is_neither_kept_nor_read_and_hides_nobody() -> None:
    state = world()
    honest = [report(number, by, at="2027-01-15T07:40:00Z") for number, by in enumerate(("alice", "joe", "ada"), 1)]
    for fact in honest + [report(number, "eve") for number in range(10, MANY)]:
        state.reports["t"].put(fact)
    assert len(state.reports["t"]) <= OF_A_PERSON + BETWEEN + len(honest)
    view = view_of(state)
    assert len(view.reports) <= OF_A_NODE and {r.by for r in view.reports} == {"alice", "joe", "ada", "eve"}
    (action,) = decide(view, FleetView(), Policy(), NOW)
    assert isinstance(action, Cordon) and len(action.record.signals) == 4, "one word of each person"


def test_a_list_of_any_length_is_bounded_page_by_page() -> None:
    state = world()
    table, kept, most = state.reports["t"], [], 0
    for page in range(60):  # of reports that invent nodes and come from many people
        kept += [report(number, f"user{number % 977}", f"ghost{number}") for number in range(page * 500 + 1, page * 500 + 501)]
        kept = table.keep(kept)
        most = max(most, len(kept))
    table.replace(kept, MANY * 2)
    assert most <= 2 * ALL and len(table) <= ALL and len(bounded(table.all())) == len(table)


def test_old_reports_expire_but_for_those_that_were_found_right_or_wrong() -> None:
    state = world()
    table = state.reports["t"]
    for number, by in ((1, "alice"), (2, "joe")):
        table.put(report(number, by, at="2027-01-01T00:00:00Z"))
    assert view_of(state).reports == ()
    record = NodeRecord(dispositions=(Disposition("report/u1", "alice", NOW - 9 * DAY, True),))
    meta = {"name": "n1", "uid": "u", "resourceVersion": "2", "labels": {NAMES.managed_label: "true"}}
    notes = {NAMES.record_annotation: encode(record)}
    state.nodes.put(node_object({"metadata": {**meta, "annotations": notes}}, "nvidia.com/gpu"))
    assert [r.by for r in view_of(state).reports] == ["alice"]


def test_pods_that_ended_in_a_flood_hide_no_verdict() -> None:
    state = world()
    bad = '{"outcome":"hardware-failure","version":"1","check":"matmul","reason":"MatmulMismatch","confirmed":true}'
    for number in range(2000):
        meta = {"namespace": "t", "name": f"p{number}", "uid": f"p{number}", "resourceVersion": "1"}
        ended = {"state": {"terminated": {"exitCode": 172, "finishedAt": "2027-01-15T07:59:00Z"}}}
        status: dict[str, Any] = {"phase": "Failed", "containerStatuses": [ended]}
        if number == 1000:
            before = {"exitCode": 0, "message": bad, "finishedAt": "2027-01-15T07:00:00Z"}
            gate = {"name": NAMES.gate_container, "state": {"terminated": {"exitCode": 171}}}
            inits = [{"name": NAMES.preflight_container, "state": {"terminated": before}}, gate]
            status = {"phase": "Failed", "initContainerStatuses": inits}
            meta["creationTimestamp"] = "2027-01-15T07:00:00Z"
        spec = {"nodeName": "n1", "containers": [{"name": "primary"}]}
        state.pods["t"].put(pod_object({"metadata": meta, "spec": spec, "status": status}, "nvidia.com/gpu", ()))
    view = view_of(state)
    assert len(view.pods) == MAX_SIGNALS
    assert any(isinstance(a, Cordon) and a.cordon.reason == "MatmulMismatch" for a in decide(view, FleetView(), Policy(), NOW))
