"""JSON merge patches of the Node: the effect of an action, and corrections where the Node differs from its record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lehr.infra.controller.objects import NodeObject, Object
from lehr.infra.fleet.actions import Action, Cordon, FlagRepair, RecordHold, Release, SetState
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.serialization import encode
from lehr.infra.fleet.views import CORDONED_STATES, NodeRecord, NodeState

Changes = dict[str, str | None]


def node_patch(node: NodeObject, action: Action, policy: Policy) -> Object:
    """The whole effect of a writing action on the Node, with the resourceVersion decided upon: 409 if it is stale."""
    record: NodeRecord = action.record  # type: ignore[union-attr]
    annotations = _annotations(action, record)
    patch = _patch(node, record, annotations, policy)
    if isinstance(action, Cordon):
        patch.setdefault("spec", {})["unschedulable"] = True
    elif isinstance(action, Release):
        patch.setdefault("spec", {})["unschedulable"] = None
    return patch


def _annotations(action: Action, record: NodeRecord) -> Changes:
    found: Changes = {NAMES.record_annotation: encode(record)}
    found[NAMES.cordon_annotation] = encode(record.cordon) if record.cordon is not None else None
    cleared: list[str] = []
    if isinstance(action, Release):
        cleared = [NAMES.hold_annotation, NAMES.override_annotation, NAMES.repair_annotation, NAMES.repaired_annotation]
    elif isinstance(action, SetState):
        cleared += [NAMES.hold_annotation] * action.clear_hold + [NAMES.override_annotation] * action.clear_override
        cleared += [NAMES.repair_annotation, NAMES.repaired_annotation] * action.clear_repair
    elif isinstance(action, RecordHold):
        found[NAMES.hold_annotation] = encode(action.hold)
    elif isinstance(action, FlagRepair):
        found[NAMES.repair_annotation] = action.reason
    return {**found, **dict.fromkeys(cleared)}


def _patch(node: NodeObject, record: NodeRecord, annotations: Changes, policy: Policy) -> Object:
    """A patch with only the differences from `node`, so that the audit log shows what changed."""
    changed = {k: v for k, v in annotations.items() if node.annotations.get(k) != v}
    meta: Object = {"resourceVersion": str(node.version)}
    if changed:
        meta["annotations"] = changed
    if node.labels.get(NAMES.state_label) != record.state.value:
        meta["labels"] = {NAMES.state_label: record.state.value}
    patch: Object = {"metadata": meta}
    taints = taints_for(node, record, policy)
    if taints != [dict(t) for t in node.taints]:
        patch["spec"] = {"taints": taints or None}
    return patch


def taints_for(node: NodeObject, record: NodeRecord, policy: Policy) -> list[dict[str, str]]:
    """The Node's taints with ours as the record requires. A merge patch replaces the list, so others' taints are included."""
    wanted: dict[str, str] = {}
    if record.state is NodeState.SUSPECT:
        wanted[NAMES.suspect_taint] = "PreferNoSchedule"
    if policy.taint_quarantined and record.cordon is not None and record.state in CORDONED_STATES:
        wanted[NAMES.quarantine_taint] = "NoSchedule"
    ours = (NAMES.suspect_taint, NAMES.quarantine_taint)
    kept = [dict(t) for t in node.taints if t.get("key") not in ours or wanted.get(t["key"]) == t.get("effect")]
    present = {t.get("key") for t in kept}
    return kept + [{"key": key, "effect": effect} for key, effect in wanted.items() if key not in present]


def repairs(node: NodeObject, policy: Policy) -> Object | None:
    """A patch that restores our label, cordon annotation or taints if somebody changed them; None if they are right."""
    if node.record is None:
        return None
    cordon = node.record.cordon
    annotations: Changes = {NAMES.cordon_annotation: encode(cordon) if cordon is not None else None}
    patch = _patch(node, node.record, annotations, policy)
    return patch if set(patch) > {"metadata"} or set(patch["metadata"]) > {"resourceVersion"} else None


def condition_patch(node: NodeObject, now: float) -> Object | None:
    """A strategic merge patch of the Node's status that sets our condition as the record requires; None if it is right."""
    if node.record is None:
        return None
    cordon = node.record.cordon
    faulty = cordon is not None and cordon.source != "burn-in"
    if not faulty and not node.own_condition[0]:
        return None
    status = "True" if faulty else "False"
    reason = _reason(cordon.reason if faulty and cordon is not None else "Healthy")
    if node.own_condition == (status, reason):
        return None
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition: dict[str, Any] = {"type": NAMES.condition, "status": status, "reason": reason, "lastHeartbeatTime": stamp}
    condition["message"] = (cordon.detail or cordon.reason)[:1000] if faulty and cordon is not None else "no known fault"
    if node.own_condition[0] != status:  # only a change of status is a transition: others measure the condition's age by it
        condition["lastTransitionTime"] = stamp
    return {"status": {"conditions": [condition]}}


def _reason(text: str) -> str:
    """CamelCase, as the API requires for conditions: reasons of people and checks may contain spaces."""
    words = "".join(c if c.isalnum() else " " for c in text if c.isascii()).split()
    return "".join(word[:1].upper() + word[1:] for word in words)[:128] or "Unknown"
