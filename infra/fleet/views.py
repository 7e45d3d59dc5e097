"""The input of `decide`: plain frozen values, times in Unix seconds. The controller, the simulator and the replay build them.

`NodeView` is one Node object with the pods and Jobs on it; `fleet_view.py` holds what one decision needs of the others. All
state that outlives a decision is in `NodeRecord`, which is stored on the Node as one annotation: a restarted controller reads
it back. infra/fleet/serialization.py turns every class here into JSON and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN_PERSON = "unknown (kubectl)"


class NodeState(StrEnum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"  # schedulable, but avoided (taint PreferNoSchedule)
    QUARANTINED = "quarantined"  # cordoned, waits for its revalidation
    REVALIDATING = "revalidating"  # cordoned, a revalidation Job occupies it
    REPAIR = "repair"  # cordoned until a person declares it repaired
    LEMON = "lemon"  # like repair; it was quarantined too often
    BURN_IN = "burn-in"  # cordoned, new, must pass tests as after a quarantine


CORDONED_STATES = frozenset(
    {NodeState.QUARANTINED, NodeState.REVALIDATING, NodeState.REPAIR, NodeState.LEMON, NodeState.BURN_IN}
)


class Outcome(StrEnum):
    PASS = "pass"
    HARDWARE_FAILURE = "hardware-failure"
    PERFORMANCE_FAILURE = "performance-failure"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class CheckResult:
    """One check's outcome. `reason` is CamelCase and becomes the node condition's reason (MatmulMismatch ...)."""

    check: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The probes' result. `check`, `reason` and `detail` are those of the worst check; empty for a pass."""

    outcome: Outcome
    version: str  # of the checks: breakers count per check and version
    check: str = ""
    reason: str = ""
    detail: str = ""
    confirmed: bool = False  # an immediate second run agreed
    finished_at: float = 0.0
    seconds: float = 0.0
    results: tuple[CheckResult, ...] = ()


@dataclass(frozen=True)
class PodView:
    """A pod on the node, in a managed training namespace. `decide` never sees other pods."""

    namespace: str
    name: str
    uid: str
    created_at: float = 0.0  # by the API server's clock
    verdict: Verdict | None = None
    at_gate: bool = True  # its init containers have not finished
    deleting: bool = False
    exit_code: int | None = None  # of the main container, once it has ended
    ended_at: float | None = None
    trusted: bool = True  # the preflight image's digest is on the allow-list
    gpus: int = 0
    grace_seconds: float = 30.0
    project: str = ""
    run: str = ""
    execution: str = ""
    rank: int | None = None
    nodes: int = 0  # number of nodes of the task, by the trainer's termination message; 0: unknown
    step: int | None = None
    checkpoint_step: int | None = None
    gpu_hours_lost: float | None = None

    @property
    def ended(self) -> bool:
        """Whether its main container has ended, so that it holds no devices any more."""
        return self.exit_code is not None


@dataclass(frozen=True)
class JobView:
    """A revalidation or burn-in Job on the node. `verdict` None with `finished_at` set: it ended without one.

    A pair test consists of two Jobs of the node that began it: one listens there, `role` "listen", and one on its partner
    connects to the `address` that the first has once it runs.
    """

    name: str
    uid: str
    attempt: int
    created_at: float
    finished_at: float | None = None
    verdict: Verdict | None = None
    deleting: bool = False
    role: str = ""
    address: str = ""


@dataclass(frozen=True)
class Report:
    """A user's report about a node (`lehr nodes report`)."""

    id: str
    by: str
    reason: str
    at: float


@dataclass(frozen=True)
class Condition:
    """A node condition set by others (node-problem-detector, DCGM, NVSentinel) whose status is True."""

    type: str
    reason: str
    since: float


@dataclass(frozen=True)
class HumanAct:
    """A person's cordon (hold), uncordon (override) or repair, with name and reason. `until` ends a hold."""

    by: str
    reason: str
    at: float
    until: float | None = None


@dataclass(frozen=True)
class CordonRecord:
    """Why our cordon is there. Stored as an annotation of its own so that people can read it."""

    id: str
    source: str  # preflight, condition, report, revalidation, burn-in
    reason: str
    at: float
    check: str = ""
    check_version: str = ""
    detail: str = ""
    run: str = ""
    execution: str = ""
    rank: int | None = None
    step: int | None = None
    checkpoint_step: int | None = None
    gpu_hours_lost: float | None = None
    evidence: str = ""  # namespace/pod uid, condition type, or report ids


@dataclass(frozen=True)
class Signal:
    """Evidence, counted once: `key` (pod uid, job uid, report id, condition) prevents counting it twice."""

    key: str
    at: float
    source: str
    outcome: Outcome
    check: str = ""
    check_version: str = ""
    reason: str = ""
    confirmed: bool = False
    by: str = ""
    detail: str = ""  # a reporter's own text


@dataclass(frozen=True)
class CordonEvent:
    """One automatic cordon, as counted by breakers and the lemon rule."""

    node: str
    pool: str
    rack: str
    check: str
    check_version: str
    at: float


@dataclass(frozen=True)
class Blocked:
    """The node would be cordoned, but these breakers are open. Cleared when its evidence expires."""

    keys: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class Disposition:
    """The outcome of a report: `confirmed` once the node proved bad, refuted (False) once it proved good."""

    report: str
    by: str
    at: float
    confirmed: bool


@dataclass(frozen=True)
class OpenPairTest:
    """A running pair test: Jobs of this node and of `partner`."""

    partner: str
    since: float


@dataclass(frozen=True)
class PairTest:
    """A finished pair test."""

    partner: str
    passed: bool
    at: float


@dataclass(frozen=True)
class NodeRecord:
    """The whole state of a node. `decide` trims the histories, so that the annotation stays small (a few KiB)."""

    state: NodeState = NodeState.HEALTHY
    since: float = 0.0
    reason: str = ""
    cordon: CordonRecord | None = None  # ours; written to Names.cordon_annotation as well
    signals: tuple[Signal, ...] = ()
    quarantines: tuple[CordonEvent, ...] = ()
    passes: tuple[float, ...] = ()  # ends of consecutive passed revalidations; of a long soak the first and the newest
    failures: int = 0
    inconclusive: int = 0
    attempt: int = 0  # number of the current or last revalidation Job
    next_attempt_at: float = 0.0
    blocked: Blocked | None = None
    ignore_before: float = 0.0  # older evidence was overruled by a person or a repair
    lemon_since: float = 0.0  # earlier quarantines do not count towards `lemon`
    override: HumanAct | None = None
    dispositions: tuple[Disposition, ...] = ()
    last_validated_at: float | None = None
    pairing: OpenPairTest | None = None
    pair_tests: tuple[PairTest, ...] = ()


@dataclass(frozen=True)
class NodeView:
    """One node. `record` None: we have never written to it. `managed` False: `decide` returns nothing."""

    name: str
    pool: str = "default"
    rack: str = ""
    managed: bool = True
    unschedulable: bool = False
    ready: bool = True
    ready_since: float = 0.0  # when Ready last turned True or the driver pod restarted, whichever is later
    created_at: float = 0.0
    gpus: int = 8
    record: NodeRecord | None = None
    hold: HumanAct | None = None
    override: HumanAct | None = None
    repaired: HumanAct | None = None
    unschedulable_by: str = UNKNOWN_PERSON  # of a cordon or uncordon without annotation; from managedFields if known
    pods: tuple[PodView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    reports: tuple[Report, ...] = ()
    conditions: tuple[Condition, ...] = ()
