"""The quarantine decision: one pure function, used unchanged by the controller, the simulator and the log replay.

Contract for whoever carries it out:
* Call `decide` for a node whenever it, its pods, Jobs, reports or conditions changed, and for every node now and then (once a
  minute is plenty: time alone also changes states). It uses no clock, no randomness, no I/O.
* Carry the actions out in the order returned. At most one of them patches the Node (infra/fleet/actions.py: one patch, with
  resourceVersion, dropped on 409). If it fails, carry out none of the later ones; decide again from a fresh view.
* The order cordon -> read back -> delete follows by itself: DeletePod is only returned for a view that already shows the node
  unschedulable. Never merge our own unconfirmed writes into the view.
* Between two `decide` calls of one round pass the fleet through `lehr.infra.fleet.summary.fleet_after`, or rebuild it with
  `lehr.infra.fleet.summary.fleet_view`: breakers must see the cordons of the same round.
* A fixed point: applying the actions and deciding again at the same time gives no further writing action (tested).
* An empty list is the normal result; a healthy node without news costs microseconds and no request.
"""

from __future__ import annotations

from dataclasses import replace

from lehr.infra.fleet import operator_actions, pair_test, revalidation
from lehr.infra.fleet.actions import Action, Cordon, DeletePod, OpenBreaker, SetState
from lehr.infra.fleet.breaker import refusals
from lehr.infra.fleet.fleet_view import FleetView
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.signals import LINK, Judgement, is_bad, judge, update_signals
from lehr.infra.fleet.views import (
    CORDONED_STATES,
    Blocked,
    CordonEvent,
    CordonRecord,
    JobView,
    NodeRecord,
    NodeState,
    NodeView,
    Outcome,
    PodView,
    Signal,
)

MAX_QUARANTINES = 16


def decide(node: NodeView, fleet: FleetView, policy: Policy, now: float) -> list[Action]:
    """The actions that `node` needs at `now` (Unix seconds). Never raises for a well-typed view."""
    if not node.managed:
        return []
    record = node.record or NodeRecord()
    noted = operator_actions.answer(node, record, policy, now)
    if noted is not None:
        return [noted]
    removals = _pods_to_delete(node, record, policy)
    if operator_actions.is_held(node):  # held by a person: only the pods that its gate keeps from starting are deleted
        return removals
    if record.cordon is not None and record.state not in CORDONED_STATES:
        record = replace(record, state=NodeState.QUARANTINED, since=now)  # somebody edited the record by hand
    if record.cordon is not None:
        step = revalidation.of_cordoned(node, record, policy, now)
        wanted = record.state is NodeState.REVALIDATING
        return [*([step] if step else []), *removals, *revalidation.stale_jobs(node, record, wanted)]
    return _schedulable(node, record, fleet, policy, now)


def _pods_to_delete(node: NodeView, record: NodeRecord, policy: Policy) -> list[Action]:
    if not node.unschedulable:
        return []
    faulty = record.cordon is not None and record.cordon.source == "condition"
    ends_running = faulty and node.hold is None and policy.delete_running_pods_on_conditions
    found: list[Action] = []
    for pod in node.pods:
        refused = pod.at_gate and pod.trusted and pod.verdict is not None and is_bad(pod.verdict)
        if not pod.deleting and (refused or (ends_running and not pod.at_gate and not pod.ended)):
            reason = pod.verdict.reason if refused and pod.verdict else record.reason
            event = "PreflightFailed" if refused else "NodeQuarantined"
            found.append(DeletePod(node.name, pod.namespace, pod.name, pod.uid, reason, event))
    return found


def _schedulable(node: NodeView, record: NodeRecord, fleet: FleetView, policy: Policy, now: float) -> list[Action]:
    if _must_burn_in(node, policy):
        return [_cordon(node, record, None, "burn-in", now)]
    seen = update_signals(node, record, policy, now)
    found = judge(seen, fleet, policy, now)
    if found.quarantine and found.signal is not None:
        return _quarantine(node, seen, found.signal, fleet, policy, now)
    if record.state is NodeState.SUSPECT:
        return _of_suspect(node, record, seen, fleet, policy, now)
    if found.suspect:
        return [_suspect(node, seen, found, now)]
    if seen is not record:
        return [SetState(node.name, seen, "evidence noted", "")]
    return list(revalidation.stale_jobs(node, record, wanted=False))


def _must_burn_in(node: NodeView, policy: Policy) -> bool:
    since = policy.burn_in_created_after
    # A node where training already runs is in service, whoever put it there.
    return since is not None and node.created_at > since and node.record is None and not revalidation.occupied(node)


def _suspect(node: NodeView, seen: NodeRecord, found: Judgement, now: float) -> Action:
    reason = found.signal.reason if found.signal is not None else ""
    return SetState(node.name, replace(seen, state=NodeState.SUSPECT, since=now, reason=reason), reason, "NodeSuspected")


def _of_suspect(
    node: NodeView, record: NodeRecord, seen: NodeRecord, fleet: FleetView, policy: Policy, now: float
) -> list[Action]:
    """A suspect whose evidence does not justify a quarantine: tested when idle, healthy again after a quiet time."""
    if record.blocked is not None:  # its evidence is no longer sufficient
        return [SetState(node.name, replace(seen, blocked=None), seen.reason, "")]
    if seen is not record:
        return [SetState(node.name, seen, seen.reason, "")]
    if record.pairing is not None:
        return pair_test.running(node, record, record.pairing, policy, now)
    link = fleet.links.get(node.name)
    if link is not None and link.verdict == "bad":
        proof = Signal(f"pairs/{record.attempt}", now, "pairs", Outcome.HARDWARE_FAILURE, LINK, "", link.reason, True)
        found = replace(seen, signals=(*seen.signals, proof), attempt=record.attempt + 1)
        return _quarantine(node, found, proof, fleet, policy, now, link.detail)
    if link is not None and (step := pair_test.next_step(node, record, link, policy, now)) is not None:
        return [step]
    quiet_since = max([record.since, *(s.at for s in record.signals)])
    if now - quiet_since > policy.suspect_seconds and not judge(record, fleet, policy, now).suspect:
        calm = replace(record, state=NodeState.HEALTHY, since=now, reason="nothing new", signals=())
        return [SetState(node.name, calm, calm.reason, "NodeCleared")]
    job = revalidation.job_of(node, record)
    outcome = revalidation.result_of(job, policy, now) if job is not None else None
    if job is not None and outcome is not None and not job.deleting:
        test = Signal(f"job/{record.attempt}", now, "revalidation", outcome, "revalidation", "", _reason_of(job), True)
        return _second_opinion(node, record, test, fleet, policy, now)
    if link is None and job is None and not revalidation.occupied(node) and revalidation.due(record, policy, now):
        return [revalidation.start(node, record, NodeState.SUSPECT, "suspect", now)]
    return list(revalidation.stale_jobs(node, record, wanted=True))


def _second_opinion(
    node: NodeView, record: NodeRecord, test: Signal, fleet: FleetView, policy: Policy, now: float
) -> list[Action]:
    """The suspect's Job has ended. The attempt number is advanced, so that the Job is deleted and never counted twice."""
    after = replace(record, attempt=record.attempt + 1, next_attempt_at=now + policy.revalidation_backoff_max_seconds)
    if test.outcome is Outcome.PASS:
        calm = revalidation.settled(after, NodeState.HEALTHY, "passed its revalidation", now, confirmed=False)
        calm = replace(calm, signals=(), ignore_before=now, last_validated_at=now)
        return [SetState(node.name, calm, calm.reason, "RevalidationPassed")]
    if test.outcome is Outcome.INCONCLUSIVE:
        return [SetState(node.name, after, record.reason, "")]
    after = replace(after, signals=(*after.signals, test))
    return _quarantine(node, after, test, fleet, policy, now)


def _reason_of(job: JobView) -> str:
    return job.verdict.reason if job.verdict is not None else ""


def _quarantine(
    node: NodeView, seen: NodeRecord, signal: Signal, fleet: FleetView, policy: Policy, now: float, detail: str = ""
) -> list[Action]:
    if seen.override is not None and now < (seen.override.until or 0.0):
        reason = f"{seen.override.by} uncordoned it: {seen.override.reason}"
        return _refuse(node, replace(seen, blocked=None), signal, reason, now)
    event = CordonEvent(node.name, node.pool, node.rack, signal.check, signal.check_version, now)
    keys = refusals(event, fleet, policy)
    if not keys:
        return [_cordon(node, seen, signal, signal.source, now, detail)]
    if seen.blocked is not None and node.record is not None and node.record.signals == seen.signals:
        return []
    stamp = Blocked(keys, seen.blocked.at if seen.blocked is not None else now)
    reason = f"breaker open: {', '.join(keys)}"
    written = _refuse(node, replace(seen, blocked=stamp), signal, reason, now)
    return [*written, OpenBreaker(node.name, keys, f"{node.name} is not cordoned for {signal.reason or signal.check}")]


def _refuse(node: NodeView, seen: NodeRecord, signal: Signal, reason: str, now: float) -> list[Action]:
    """Suspect instead of quarantined. Written once for each new piece of evidence."""
    since = seen.since if seen.state is NodeState.SUSPECT else now
    written = replace(seen, state=NodeState.SUSPECT, since=since, reason=signal.reason)
    if written == node.record:
        return []
    return [SetState(node.name, written, reason, "QuarantineBlocked")]


def _cordon(node: NodeView, seen: NodeRecord, signal: Signal | None, source: str, now: float, detail: str = "") -> Cordon:
    pod = _pod_of(node, signal)
    cordon = CordonRecord(
        id=f"{node.name}-{now:.0f}",
        source=source,
        reason=(signal.reason or signal.check) if signal is not None else "new node",
        at=now,
        check=signal.check if signal is not None else "",
        check_version=signal.check_version if signal is not None else "",
        detail=detail or (pod.verdict.detail if pod is not None and pod.verdict is not None else "") or _said_by(signal),
        evidence=signal.key if signal is not None else "",
    )
    if pod is not None:
        cordon = replace(
            cordon,
            run=pod.run,
            execution=pod.execution,
            rank=pod.rank,
            step=pod.step,
            checkpoint_step=pod.checkpoint_step,
            gpu_hours_lost=pod.gpu_hours_lost,
        )
    events = seen.quarantines
    if signal is not None:
        events += (CordonEvent(node.name, node.pool, node.rack, signal.check, signal.check_version, now),)
    state = NodeState.QUARANTINED if signal is not None else NodeState.BURN_IN
    record = replace(
        seen,
        state=state,
        since=now,
        reason=cordon.reason,
        cordon=cordon,
        quarantines=events[-MAX_QUARANTINES:],
        passes=(),
        failures=0,
        inconclusive=0,
        next_attempt_at=now,
        blocked=None,
        pairing=None,
        pair_tests=(),
    )
    return Cordon(node.name, record, cordon)


def _said_by(signal: Signal | None) -> str:
    return f"{signal.by}: {signal.detail}" if signal is not None and signal.detail else ""


def _pod_of(node: NodeView, signal: Signal | None) -> PodView | None:
    """The pod whose run pays for the cordon: the one that accused the node, otherwise any that runs there."""
    accuser = next((p for p in node.pods if signal is not None and signal.key.partition("/")[2] == p.uid), None)
    return accuser or next(iter(node.pods), None)
