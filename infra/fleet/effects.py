"""The effect of an action on a NodeView, as the cluster would show it afterwards. For the simulator and the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from lehr.infra.fleet.actions import (
    Action,
    Cordon,
    DeleteJob,
    DeletePod,
    FlagRepair,
    OpenBreaker,
    RecordHold,
    Release,
    SetState,
    StartPair,
    StartRevalidation,
)
from lehr.infra.fleet.views import JobView, NodeView


def applied(node: NodeView, action: Action, now: float) -> NodeView:
    """`node` after `action`. Deleted pods and Jobs are gone at once; a started Job has just been created."""
    match action:
        case Cordon():
            return replace(node, unschedulable=True, record=action.record)
        case Release():
            return replace(node, unschedulable=False, record=action.record, hold=None, override=None, repaired=None)
        case SetState():
            return _set_state(node, action)
        case RecordHold():
            return replace(node, record=action.record, hold=action.hold)
        case FlagRepair():
            return replace(node, record=action.record)
        case StartRevalidation():
            job = JobView(f"{node.name}-{action.attempt}", f"{node.name}-{action.attempt}", action.attempt, now)
            there = any(j.attempt == action.attempt for j in node.jobs)
            return replace(node, record=action.record, jobs=node.jobs if there else (*node.jobs, job))
        case StartPair():
            name = f"{node.name}-{action.attempt}-{action.role}"
            pair = JobView(name, name, action.attempt, now, role=action.role)
            there = any(j.name == name for j in node.jobs)
            return replace(node, record=action.record, jobs=node.jobs if there else (*node.jobs, pair))
        case DeletePod():
            return replace(node, pods=tuple(p for p in node.pods if p.uid != action.uid))
        case DeleteJob():
            return replace(node, jobs=tuple(j for j in node.jobs if j.uid != action.uid))
        case OpenBreaker():
            return node
        case _:
            assert_never(action)


def _set_state(node: NodeView, action: SetState) -> NodeView:
    return replace(
        node,
        record=action.record,
        override=None if action.clear_override else node.override,
        hold=None if action.clear_hold else node.hold,
        repaired=None if action.clear_repair else node.repaired,
    )
