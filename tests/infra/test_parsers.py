"""What pods and people wrote, read by the controller: no text raises, none grows a node's record, none reaches a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.infra.controller.objects import PROGRESS, lost, node_object, pod_object
from lehr.infra.controller.parsers import verdict_of
from lehr.infra.fleet import decision_log
from lehr.infra.fleet.actions import Cordon
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import decode, encode
from lehr.infra.fleet.views import HumanAct, NodeRecord, NodeState, NodeView, Outcome, Verdict

NOW = 1_800_000_000.0
BAD = Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", "bit 3", confirmed=True, finished_at=NOW)
DEEP = "[" * 100_000
WORDS = (
    DEEP,
    '{"checkpoint_at":1' + "0" * 400 + "}",
    '{"checkpoint_at":NaN,"step":1e999,"rank":true}',
    '{"rank":1' + "0" * 5000 + "}",
    '{"run":"\\ud800\\u001b[31m"}',
    json.dumps({"run": ["x" * 100_000], "step": 1 << 60, "nodes": -5}),
)


def pod(message: str, verdict: str = "", note: str = "") -> dict[str, Any]:
    ended = {"exitCode": 172, "message": message, "finishedAt": "2027-01-15T07:59:00Z"}
    before = {"name": NAMES.preflight_container, "state": {"terminated": {"exitCode": 0, "message": verdict}}}
    status = {"containerStatuses": [{"name": "primary", "state": {"terminated": ended}}], "initContainerStatuses": [before]}
    meta = {"name": "p", "namespace": "training", "uid": "u", "resourceVersion": "7", "annotations": {PROGRESS: note}}
    return {"metadata": meta, "spec": {"nodeName": "n", "containers": [{"name": "primary"}]}, "status": status}


@pytest.mark.parametrize("words", WORDS, ids=range(len(WORDS)))
def test_a_last_word_of_any_shape_costs_only_itself(words: str) -> None:
    """The node is cordoned for the verdict all the same, and everything that is written about it can be written."""
    view = lost(pod_object(pod(words, encode(BAD), words), "nvidia.com/gpu", ()), NOW)
    assert view.run.isprintable() and len(view.run) <= 200 and view.nodes == 0
    node = NodeView("n", pods=(view,))
    actions = decide(node, FleetView(), Policy(), NOW)
    assert isinstance(actions[0], Cordon) and actions[0].cordon.reason == "MatmulMismatch"
    assert decode(NodeRecord, encode(actions[0].record).encode()) == actions[0].record
    assert decision_log.line(NOW, node, FleetView(), actions).encode()


def test_a_verdict_is_cut_to_what_an_annotation_holds() -> None:
    fine = json.loads(encode(BAD))
    noisy = dict.fromkeys(("version", "check", "reason", "detail"), "\x1b[2J" + "x" * 10_000)
    result = {"check": "c" * 10_000, "outcome": "pass", "detail": "d" * 10_000}
    found = verdict_of(json.dumps({**fine, **noisy, "results": [result] * 500, "node": "another"}))
    assert found is not None and found.confirmed and len(encode(found)) < 16_000
    assert all(text.isprintable() for text in (found.version, found.check, found.reason, found.detail))
    for time in ("NaN", "Infinity", "1e999"):
        assert verdict_of(encode(BAD).replace(f"{NOW}", time)) is None


VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just(10**400)
FIELDS = ("run", "rank", "nodes", "step", "checkpoint_step", "checkpoint_at", "outcome", "version", "confirmed", "finished_at")


@given(st.text() | st.dictionaries(st.sampled_from(FIELDS), st.recursive(VALUES, st.lists), max_size=6).map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_no_text_raises(text: str) -> None:
    view = lost(pod_object(pod(text, text, text), "nvidia.com/gpu", ()), NOW)
    assert encode(view).encode() and decode(type(view), encode(view)) == view
    assert node({NAMES.record_annotation: text, NAMES.cordon_annotation: text}) in (None, NodeRecord())


def node(annotations: dict[str, str], unschedulable: bool = True) -> NodeRecord | None:
    meta = {"name": "n", "uid": "u", "resourceVersion": "7", "annotations": annotations}
    return node_object({"metadata": meta, "spec": {"unschedulable": unschedulable}}, "nvidia.com/gpu").record


def test_a_record_that_cannot_be_read_is_made_anew_from_the_cordon() -> None:
    """A newer controller's state, or an editor's slip: our cordon stays ours, is tested and ends; a person's stays theirs."""
    cordon = decide(NodeView("n", pods=(lost(pod_object(pod("", encode(BAD)), "g", ()), NOW),)), FleetView(), Policy(), NOW)[0]
    assert isinstance(cordon, Cordon)
    notes = {NAMES.cordon_annotation: encode(cordon.cordon)}
    for text in ('{"state":"dismantled"}', "{", DEEP):
        found = node({**notes, NAMES.record_annotation: text})
        assert found is not None and found.state is NodeState.QUARANTINED and found.cordon == cordon.cordon
        assert node({**notes, NAMES.record_annotation: text}, unschedulable=False) is None
    assert node({NAMES.record_annotation: "{", NAMES.hold_annotation: encode(HumanAct("olga", "mine", NOW))}) is None
    newer = json.loads(encode(cordon.record)) | {"a_field_of_later": [1]}
    assert node({**notes, NAMES.record_annotation: json.dumps(newer)}) == cordon.record
