"""The actions that `decide` returns. They are plain values; the controller, the simulator and the tests carry them out.

An action that writes to the Node holds the whole new `record`; write it in ONE patch with the rest of that action and with the
resourceVersion of the object that was decided upon, and drop it on a conflict: the next round decides anew. `decide` returns at
most one writing action per call (`writes_node`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lehr.infra.fleet.views import CordonRecord, HumanAct, NodeRecord


@dataclass(frozen=True)
class Cordon:
    """Set unschedulable, record and cordon annotation, state label; condition True. `event`: NodeQuarantined."""

    node: str
    record: NodeRecord
    cordon: CordonRecord
    event: str = "NodeQuarantined"
    kind: Literal["cordon"] = "cordon"


@dataclass(frozen=True)
class Release:
    """Clear unschedulable, cordon, hold, override and repair annotations, taints; condition False; write the record."""

    node: str
    record: NodeRecord
    reason: str
    event: str = "NodeReturned"
    kind: Literal["release"] = "release"


@dataclass(frozen=True)
class SetState:
    """Write record, state label, suspect taint (exactly in state suspect) and condition. Never touches unschedulable.

    The cordon annotation is written if `record.cordon`, else removed; so is the override annotation if
    `clear_override`, the hold annotation if `clear_hold`, the repair and repaired annotations if `clear_repair`.
    """

    node: str
    record: NodeRecord
    reason: str
    event: str  # reason of the Kubernetes event; empty: none
    clear_override: bool = False
    clear_hold: bool = False
    clear_repair: bool = False
    kind: Literal["set-state"] = "set-state"


@dataclass(frozen=True)
class RecordHold:
    """Somebody cordoned without `lehr nodes cordon`: write the hold annotation, so that name and time are kept."""

    node: str
    record: NodeRecord
    hold: HumanAct
    event: str = "NodeHeld"
    kind: Literal["record-hold"] = "record-hold"


@dataclass(frozen=True)
class FlagRepair:
    """As SetState; also write the repair annotation and call the webhook with the evidence. State repair or lemon."""

    node: str
    record: NodeRecord
    reason: str
    event: str = "RepairNeeded"
    kind: Literal["flag-repair"] = "flag-repair"


@dataclass(frozen=True)
class StartRevalidation:
    """Write the record (its `attempt` is new), then create the Job named by node and attempt; AlreadyExists is not an error.

    `suspect` Jobs run on a schedulable, idle node; the others need a toleration of node.kubernetes.io/unschedulable.
    """

    node: str
    record: NodeRecord
    attempt: int
    suite: Literal["revalidation", "burn-in", "suspect"]
    event: str = "RevalidationStarted"
    kind: Literal["start-revalidation"] = "start-revalidation"


@dataclass(frozen=True)
class StartPair:
    """Write the record (its `attempt` is new), then create one of the two Jobs of a pair test; AlreadyExists is not an error.

    `listen` runs on the node itself, `connect` on `partner`, with the address of the first.
    """

    node: str
    record: NodeRecord
    attempt: int
    partner: str
    role: Literal["listen", "connect"]
    address: str = ""
    event: str = "PairTestStarted"
    kind: Literal["start-pair"] = "start-pair"


@dataclass(frozen=True)
class DeletePod:
    """Delete one pod with this UID as precondition. Only returned once the view shows the node unschedulable."""

    node: str
    namespace: str
    name: str
    uid: str
    reason: str
    event: str = "PreflightFailed"
    kind: Literal["delete-pod"] = "delete-pod"


@dataclass(frozen=True)
class DeleteJob:
    """Delete a revalidation Job (with its pods) whose result is recorded, or that is no longer waited for."""

    node: str
    name: str
    uid: str
    reason: str
    kind: Literal["delete-job"] = "delete-job"


@dataclass(frozen=True)
class OpenBreaker:
    """A cordon was refused. Once per node and refusal, for events and logs. Gauges: lehr.infra.fleet.breaker.statuses()."""

    node: str
    keys: tuple[str, ...]  # pool/NAME, check/NAME@VERSION, rack/NAME, cap/POOL
    reason: str
    event: str = "BreakerOpened"
    kind: Literal["open-breaker"] = "open-breaker"


Action = (
    Cordon | Release | SetState | RecordHold | FlagRepair | StartRevalidation | StartPair | DeletePod | DeleteJob | OpenBreaker
)
WRITES_NODE = (Cordon, Release, SetState, RecordHold, FlagRepair, StartRevalidation, StartPair)


def writes_node(action: Action) -> bool:
    """True for actions that patch the Node object."""
    return isinstance(action, WRITES_NODE)
