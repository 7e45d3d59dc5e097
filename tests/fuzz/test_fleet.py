"""The fleet: any annotation, termination message, policy, settings and decision log."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from lehr.infra.controller.objects import node_object, pod_object
from lehr.infra.controller.parsers import verdict_of
from lehr.infra.controller.settings import Settings
from lehr.infra.fleet import decision_log
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import decode, encode, to_data
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import (
    CordonEvent,
    CordonRecord,
    HumanAct,
    NodeRecord,
    NodeState,
    NodeView,
    Outcome,
    Signal,
    Verdict,
)
from tests.fuzz.bounds import tried
from tests.fuzz.inputs import dumped, mutated_bytes, mutated_value, texts, values
from tests.fuzz.watch import place, refused_or_done, run
from tests.infra.test_decide_properties import views

NOW = 1_800_000_000.0
VERDICT = Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", "bit 3", confirmed=True, finished_at=NOW)
RECORD = NodeRecord(
    NodeState.QUARANTINED, NOW, "MatmulMismatch", CordonRecord("c", "preflight", "MatmulMismatch", NOW),
    signals=(Signal("s", NOW, "preflight", Outcome.HARDWARE_FAILURE, "matmul", confirmed=True, by="p"),),
    quarantines=(CordonEvent("n", "default", "r1", "matmul", "1", NOW),), passes=(NOW,), next_attempt_at=NOW,
)  # fmt: skip
NOTES = {
    NAMES.record_annotation: RECORD,
    NAMES.cordon_annotation: RECORD.cordon,
    NAMES.hold_annotation: HumanAct("ada", "mine", NOW),
    NAMES.override_annotation: HumanAct("ada", "done", NOW, NOW),
    NAMES.repaired_annotation: HumanAct("ada", "fixed", NOW),
}


def changed(value: Any) -> st.SearchStrategy[str]:
    """What stands where the JSON of `value` belongs."""
    slips = mutated_bytes(encode(value).encode()).map(lambda raw: raw.decode("utf-8", "replace"))
    return slips | mutated_value(to_data(value)).map(json.dumps) | texts | values.map(json.dumps)


annotations = st.fixed_dictionaries({}, optional={name: changed(value) for name, value in NOTES.items()})


@tried(30)
@given(annotations, changed(VERDICT), changed({"run": "r", "rank": 0, "step": 3, "checkpoint_at": NOW}), st.booleans())
def test_any_note_is_read_or_passed_over(notes: dict[str, str], verdict: str, word: str, cordoned: bool) -> None:
    """Whatever is decided about it can be written down and read back."""
    meta = {"name": "n", "namespace": "training", "uid": "u", "resourceVersion": "7", "annotations": notes}
    fact = node_object({"metadata": meta, "spec": {"unschedulable": cordoned}}, "nvidia.com/gpu")
    ended = {"exitCode": 172, "message": word, "finishedAt": "2027-01-15T07:59:00Z"}
    before = {"name": NAMES.preflight_container, "state": {"terminated": {"exitCode": 0, "message": verdict}}}
    status = {"containerStatuses": [{"name": "p", "state": {"terminated": ended}}], "initContainerStatuses": [before]}
    pod = pod_object({"metadata": meta, "spec": {"nodeName": "n"}, "status": status}, "nvidia.com/gpu", ())
    node = NodeView("n", unschedulable=cordoned, record=fact.record, pods=(pod.view,))
    fleet = fleet_view([node], Policy(), NOW)
    actions = decide(node, fleet, Policy(), NOW)
    logged = json.loads(decision_log.line(NOW, node, fleet, actions))
    assert logged["node"]["name"] == "n" and encode(list(actions)).encode()
    if fact.record is not None:
        assert decode(NodeRecord, encode(fact.record)) == fact.record
    found = verdict_of(verdict)
    assert found is None or (len(encode(found)) < 16_000 and decode(Verdict, encode(found)) == found)


POLICY = json.loads(Policy().model_dump_json())
SETTINGS = json.loads(Settings().model_dump_json())
yamls = st.sampled_from((POLICY, SETTINGS)).flatmap(mutated_value).map(lambda value: yaml.dump(value).encode())
files = yamls | mutated_bytes(yaml.dump(POLICY).encode()) | st.binary(max_size=60) | values.map(lambda v: yaml.dump(v).encode())


@tried(12)
@given(files)
def test_any_file_is_a_policy_or_settings_or_refused(text: bytes) -> None:
    with place() as here:
        path = here.given / "file.yaml"
        path.write_bytes(text)
        refused_or_done(lambda: Policy.load(path))
        refused_or_done(lambda: Settings.load(path))


def _log(view: NodeView) -> bytes:
    return decision_log.line(NOW, view, FleetView(), decide(view, FleetView(), Policy(), NOW)).encode()


logs = st.lists(views, min_size=1, max_size=2).map(lambda found: [_log(view) for view in found])
slips = logs.map(b"\n".join).flatmap(mutated_bytes)
changes = logs.flatmap(lambda lines: st.tuples(*(mutated_value(json.loads(line)).map(dumped) for line in lines)))


@tried(8)
@given(slips | changes.map(b"\n".join), yamls)
def test_any_log_is_replayed_or_refused(log: bytes, policy: bytes) -> None:
    with place() as here:
        (here.given / "log.jsonl").write_bytes(log + b"\n")
        (here.given / "policy.yaml").write_bytes(policy)
        (here.given / "plain.yaml").write_text("")
        for name in ("policy.yaml", "plain.yaml"):
            run(here, "simulate", "replay", here.given / "log.jsonl", "--policy", here.given / name)
