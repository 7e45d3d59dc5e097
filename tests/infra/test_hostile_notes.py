"""Whatever stands in a node's annotations: one line, it is skipped, what is written is bounded, others are cared for."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.infra.controller import patches
from lehr.infra.controller.jobs import job, pair_job
from lehr.infra.controller.metrics import ControllerMetrics
from lehr.infra.controller.node_commands import history, info
from lehr.infra.controller.objects import pod_object
from lehr.infra.controller.settings import Settings
from lehr.infra.controller.state import State
from lehr.infra.fleet import decision_log
from lehr.infra.fleet.actions import Cordon, StartPair, StartRevalidation, writes_node
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.effects import applied
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import CordonRecord, HumanAct, NodeRecord, Outcome, Verdict
from lehr.infra.kube.api import Api

NOW = 1_800_000_000.0
BAD = Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", "bit 3", confirmed=True, finished_at=NOW)
CHOSEN = Settings(namespaces=("t",))


def node(name: str, notes: dict[str, str], version: int = 1, unschedulable: bool = False) -> dict[str, Any]:
    labels = {NAMES.managed_label: "true"}
    meta = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels, "annotations": notes}
    status = {"capacity": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": meta, "spec": {"unschedulable": unschedulable}, "status": status}


def pod(on: str) -> dict[str, Any]:
    ended = {"name": NAMES.preflight_container, "state": {"terminated": {"exitCode": 0, "message": encode(BAD)}}}
    meta = {"name": f"p-{on}", "namespace": "t", "uid": f"p-{on}", "resourceVersion": "7"}
    return {"metadata": meta, "spec": {"nodeName": on}, "status": {"initContainerStatuses": [ended]}}


def world() -> State:
    return State(Api(None), CHOSEN, ControllerMetrics())  # type: ignore[arg-type] # nothing is asked of it


numbers = st.sampled_from([0, 1, -1, 2**31, 2**53, -(2**70), 10**300, 10**4000])
leaves = (
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8) | st.sampled_from(["n2", "suspect", "x" * 9000])
)
shapes = st.recursive(leaves, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=4), s, max_size=3))
fields = st.dictionaries(st.sampled_from(list(NodeRecord.__dataclass_fields__)), shapes, max_size=4)


def annotation(kind: type[Any]) -> st.SearchStrategy[str]:
    """A value of the right shape with any content, one field of it replaced by anything, cut off, or any text."""
    right = st.from_type(kind).map(encode)
    odd = st.tuples(right, fields).map(lambda p: json.dumps({**json.loads(p[0]), **p[1]}))
    cut = st.tuples(right, st.integers(0, 400)).map(lambda p: p[0][: p[1]])
    return right | odd | cut | st.text() | st.just("[" * 50_000) | st.just('{"signals":[' + "{}," * 50_000 + "{}]}")


notes = st.fixed_dictionaries(
    {},
    optional={
        NAMES.record_annotation: annotation(NodeRecord),
        NAMES.cordon_annotation: annotation(CordonRecord),
        NAMES.hold_annotation: annotation(HumanAct),
        NAMES.override_annotation: annotation(HumanAct),
        NAMES.repaired_annotation: annotation(HumanAct),
    },
)


@settings(max_examples=150, deadline=None)
@given(notes, st.booleans())
def test_annotations_of_any_content_cost_only_their_own_node(found: dict[str, str], unschedulable: bool) -> None:
    state = world()
    made = node("n1", found, unschedulable=unschedulable)
    for item in (made, node("n2", {})):
        state.nodes.put(state.read_node(item))
    state.pods["t"].put(pod_object(pod("n2"), "nvidia.com/gpu", ()))
    views = dict(state.refresh({"n1", "n2"}, NOW))
    assert history(info(made), []) is not None
    for _ in range(4):
        fleet = fleet_view(views.values(), Policy(), NOW)
        actions = decide(views["n1"], fleet, Policy(), NOW)
        assert len(decision_log.line(NOW, views["n1"], fleet, actions).encode()) < 300_000
        for action in actions:
            _writes_what_the_server_takes(state, action)
            views["n1"] = applied(views["n1"], action, NOW)
    assert isinstance(decide(views["n2"], fleet_view(views.values(), Policy(), NOW), Policy(), NOW)[0], Cordon)


def _writes_what_the_server_takes(state: State, action: Any) -> None:
    fact = state.shown("n1")
    made: list[Any] = [patches.condition_patch(fact, NOW), patches.repairs(fact, Policy())]
    if writes_node(action):
        made.append(patches.node_patch(fact, action, Policy()))
    if isinstance(action, StartRevalidation):
        made.append(job(fact, action, CHOSEN))
    if isinstance(action, StartPair):
        made.append(pair_job(fact, fact, action, CHOSEN))
    for body in made:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False)
        assert len(text.encode()) < 200_000, "the server takes 256 KiB of annotations"
        if body and body.get("kind") == "Job":
            assert len(body["metadata"]["name"]) <= 63


def test_a_list_that_is_too_long_or_a_number_too_large_is_cut_and_the_cordon_stays_ours() -> None:
    cordon = CordonRecord("id", "preflight", "MatmulMismatch\x1b[2J\nforged line", NOW)
    record = NodeRecord(cordon=cordon, passes=(NOW,) * 5000, attempt=10**30, failures=-(10**40), lemon_since=1e300)
    read = world().read_node(node("n1", {NAMES.record_annotation: encode(record)}, unschedulable=True)).record
    assert read is not None and read.cordon is not None
    assert read.cordon.reason.isprintable() and len(read.passes) <= 64 and 0 <= read.attempt < 2**31 and read.failures == 0


def test_one_line_for_what_cannot_be_read_and_not_again(caplog: pytest.LogCaptureFixture) -> None:
    state, odd = world(), {NAMES.record_annotation: '{"state":\n"\x1b[31mgone"}', NAMES.hold_annotation: "mine"}
    with caplog.at_level(logging.WARNING):
        for version in range(1, 20):
            state.read_node(node("n1", odd, version))
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.isprintable() and "n1" in line and NAMES.record_annotation in line and NAMES.hold_annotation in line
