"""Operator actions on a node take precedence: cordons, uncordons and repairs, by `lehr nodes` or plain kubectl."""

from __future__ import annotations

from dataclasses import replace

from lehr.infra.fleet.actions import Action, RecordHold, Release, SetState
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.views import CORDONED_STATES, HumanAct, NodeRecord, NodeState, NodeView

REPAIRABLE = (NodeState.REPAIR, NodeState.LEMON, NodeState.QUARANTINED, NodeState.REVALIDATING, NodeState.BURN_IN)


def is_held(node: NodeView) -> bool:
    """Whether a person has cordoned the node."""
    return node.unschedulable and (node.hold is not None or node.record is None or node.record.cordon is None)


def answer(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Action | None:
    """The one writing action that records an operator's action; None if there is nothing to record."""
    if not node.unschedulable:
        return _uncordoned(node, record, policy, now)
    if record.cordon is None and node.hold is None:
        hold = HumanAct(node.unschedulable_by, "cordoned without a reason", now)
        return RecordHold(node.name, record, hold)
    if node.hold is not None and node.hold.until is not None and node.hold.until <= now:
        if record.cordon is None:
            freed = replace(_schedulable(record, now), reason=f"hold of {node.hold.by} ended")
            return Release(node.name, freed, f"hold of {node.hold.by} ended ({node.hold.reason})", "HoldEnded")
        return SetState(node.name, record, f"hold of {node.hold.by} ended", "HoldEnded", clear_hold=True)
    if node.hold is None and node.repaired is not None:
        return _repaired(node, node.repaired, record, now)
    return None


def _uncordoned(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Action | None:
    ours = record.cordon is not None or record.state in CORDONED_STATES
    if not ours and node.hold is None and node.override is None:
        if node.repaired is not None:
            return SetState(node.name, record, "repaired", "", clear_repair=True)
        return None
    act = node.override or HumanAct(node.unschedulable_by, "uncordoned without a reason", now)
    at = min(act.at, now)
    override = replace(act, at=at, until=at + policy.override_seconds)
    freed = replace(
        _schedulable(record, at),
        state=NodeState.SUSPECT if ours else _schedulable(record, at).state,
        reason=f"uncordoned by {act.by}: {act.reason}",
        override=override,
        ignore_before=max(at, record.ignore_before),
        lemon_since=at if ours else record.lemon_since,
    )
    return SetState(node.name, freed, freed.reason, "HumanOverride", clear_override=True, clear_hold=True, clear_repair=True)


def _schedulable(record: NodeRecord, since: float) -> NodeRecord:
    """`record` without our cordon and its data. The attempt number is advanced, so that a running Job is deleted."""
    state = record.state if record.state not in CORDONED_STATES else NodeState.SUSPECT
    return replace(
        record,
        state=state,
        since=since,
        cordon=None,
        signals=(),
        passes=(),
        failures=0,
        inconclusive=0,
        blocked=None,
        attempt=record.attempt + 1,
        pairing=None,
        pair_tests=(),
    )


def _repaired(node: NodeView, act: HumanAct, record: NodeRecord, now: float) -> Action:
    at = min(act.at, now)
    if record.state not in REPAIRABLE or at <= record.ignore_before:
        return SetState(node.name, record, "repaired", "", clear_repair=True)
    fresh = replace(
        record,
        state=NodeState.QUARANTINED,
        since=now,
        reason=f"repaired by {act.by}: {act.reason}",
        signals=(),
        passes=(),
        failures=0,
        inconclusive=0,
        next_attempt_at=now,
        ignore_before=at,
        # A repair does not clear a lemon's history of quarantines unless it was a lemon: then a person has looked at it.
        lemon_since=at if record.state is NodeState.LEMON else record.lemon_since,
    )
    return SetState(node.name, fresh, fresh.reason, "NodeRepaired", clear_repair=True)
