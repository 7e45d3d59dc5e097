"""The way back into service: revalidation Jobs, their results, repair and lemon, burn-in of new nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lehr.infra.fleet.actions import Action, DeleteJob, FlagRepair, Release, SetState, StartRevalidation
from lehr.infra.fleet.policy import HOUR, Policy
from lehr.infra.fleet.views import Disposition, JobView, NodeRecord, NodeState, NodeView, Outcome

MAX_DISPOSITIONS = 32
Suite = Literal["revalidation", "burn-in", "suspect"]


def of_cordoned(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Action | None:
    """The next step for a node that is cordoned by us and not held by a person."""
    if record.state in (NodeState.REPAIR, NodeState.LEMON):
        return None
    broken = _soak_broken_by(node, record, policy, now)
    if broken:
        return _failed(node, record, f"soak broken: {broken}", policy, now)
    if record.state is NodeState.REVALIDATING:
        return _of_job(node, record, policy, now)
    if record.state is NodeState.QUARANTINED and _beyond_tests(record):
        reason = f"{record.reason}: {record.cordon.detail}" if record.cordon is not None else record.reason
        return FlagRepair(node.name, settled(record, NodeState.REPAIR, reason, now, confirmed=True), reason)
    if record.state is NodeState.QUARANTINED and _is_lemon(record, policy, now):
        times = len(_recent(record, policy, now))
        reason = f"quarantined {times} times in {policy.lemon_window_seconds / 86400:g} days"
        return FlagRepair(node.name, settled(record, NodeState.LEMON, reason, now, confirmed=True), reason)
    # While pods run here, their GPUs cannot be tested: a Job would only wait for them and time out.
    if occupied(node) or not due(record, policy, now):
        return None
    return start(node, record, NodeState.REVALIDATING, suite_of(record), now)


def due(record: NodeRecord, policy: Policy, now: float) -> bool:
    """Whether the next test is due; also if its time is further ahead than we ever wait, set by a clock that was wrong."""
    longest = max(policy.revalidation_backoff_max_seconds, policy.revalidation_backoff_seconds, policy.revalidation_gap_seconds)
    return not 0 < record.next_attempt_at - now <= longest


def occupied(node: NodeView) -> bool:
    """Whether a task's pod is on the node, running or about to start."""
    return any(not pod.ended for pod in node.pods)


def suite_of(record: NodeRecord) -> Suite:
    """The suite by the cordon's source: a new node stays in burn-in through all states."""
    return "burn-in" if record.cordon is not None and record.cordon.source == "burn-in" else "revalidation"


def start(node: NodeView, record: NodeRecord, state: NodeState, suite: Suite, now: float) -> StartRevalidation:
    attempt = record.attempt + 1
    since = now if state is not record.state else record.since
    running = replace(record, state=state, since=since, attempt=attempt, reason=record.reason)
    return StartRevalidation(node.name, running, attempt, suite)


def job_of(node: NodeView, record: NodeRecord) -> JobView | None:
    return next((job for job in node.jobs if job.attempt == record.attempt), None)


def result_of(job: JobView, policy: Policy, now: float) -> Outcome | None:
    """The Job's outcome; None while it may still end in time."""
    if job.finished_at is not None:
        return job.verdict.outcome if job.verdict is not None else Outcome.INCONCLUSIVE
    return Outcome.INCONCLUSIVE if now - job.created_at > policy.revalidation_timeout_seconds else None


def stale_jobs(node: NodeView, record: NodeRecord, wanted: bool) -> list[Action]:
    """Deletions of Jobs whose result is recorded: all of them, or all but the current attempt's if that is `wanted`."""
    return [
        DeleteJob(node.name, job.name, job.uid, "its result is counted")
        for job in node.jobs
        if not job.deleting and not (wanted and job.attempt == record.attempt)
    ]


def settled(record: NodeRecord, state: NodeState, reason: str, now: float, *, confirmed: bool) -> NodeRecord:
    """`record` in `state`, with an outcome for the reports that led to it."""
    judged = {d.report for d in record.dispositions}
    new = tuple(
        Disposition(s.key, s.by, now, confirmed) for s in record.signals if s.source == "report" and s.key not in judged
    )
    kept = (record.dispositions + new)[-MAX_DISPOSITIONS:]
    return replace(record, state=state, since=now, reason=reason, dispositions=kept, blocked=None)


def _of_job(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Action | None:
    job = job_of(node, record)
    if job is None:  # not created yet: the controller may have stopped between record and Job
        return StartRevalidation(node.name, record, record.attempt, suite_of(record), event="")
    outcome = result_of(job, policy, now)
    if outcome is None:
        return None
    if outcome is Outcome.PASS:
        return _passed(node, record, job, policy, now)
    if outcome is Outcome.INCONCLUSIVE:
        return _unanswered(node, record, policy, now)
    why = job.verdict.reason if job.verdict is not None else ""
    return _failed(node, record, f"revalidation failed: {why}", policy, now)


def _unanswered(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Action:
    record, reason = replace(record, inconclusive=record.inconclusive + 1), "revalidation gives no answer"
    if record.inconclusive >= policy.inconclusive_before_repair:
        return FlagRepair(node.name, settled(record, NodeState.REPAIR, reason, now, confirmed=False), reason)
    return _later(node, record, reason, record.inconclusive, policy, now)


def _failed(node: NodeView, record: NodeRecord, reason: str, policy: Policy, now: float) -> Action:
    record = replace(record, failures=record.failures + 1, passes=())
    if record.failures >= policy.repair_after_failures:
        return FlagRepair(node.name, settled(record, NodeState.REPAIR, reason, now, confirmed=True), reason)
    return _later(node, record, reason, record.failures, policy, now)


def _later(node: NodeView, record: NodeRecord, reason: str, times: int, policy: Policy, now: float) -> Action:
    """Tested again after a while that doubles with each of the `times`."""
    wait = min(policy.revalidation_backoff_seconds * 2 ** (times - 1), policy.revalidation_backoff_max_seconds)
    back = replace(_waiting(record, reason, now), next_attempt_at=now + wait)
    return SetState(node.name, back, reason, "RevalidationFailed")


def _passed(node: NodeView, record: NodeRecord, job: JobView, policy: Policy, now: float) -> Action:
    # By the node's clock, so not before the Job was made by the API server's: a soak must not begin in the past.
    ended = min(max(job.created_at, job.finished_at or now), now)
    passes = (*record.passes, ended)
    clean, wanted = ended - passes[0], policy.revalidation_clean_seconds
    if len(passes) >= policy.revalidation_passes and clean >= wanted:
        reason = f"passed {len(passes)} revalidations" + (f", clean for {clean / HOUR:.1f} hours" if wanted else "")
        good = settled(record, NodeState.HEALTHY, reason, now, confirmed=False)
        good = replace(
            good,
            attempt=record.attempt + 1,  # so that this Job is never taken for that of a later suspect
            cordon=None,
            signals=(),
            passes=(),
            failures=0,
            inconclusive=0,
            ignore_before=now,
            last_validated_at=now,
        )
        return Release(node.name, good, reason)
    reason = f"passed, clean for {clean / HOUR:.1f} of {wanted / HOUR:g} hours" if wanted else "passed once"
    # Measured from now, not from `ended`: a node's clock that is behind must not shorten the gap.
    back = replace(_waiting(record, reason, now), next_attempt_at=now + policy.revalidation_gap_seconds)
    # The first one dates the soak; of the others no more are kept than are asked for, so that the annotation stays small.
    kept = passes[:1] + passes[1:][-max(1, policy.revalidation_passes - 1) :]
    return SetState(node.name, replace(back, passes=kept), reason, "RevalidationPassed")


def _soak_broken_by(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> str:
    """What happened to the node since the first pass of its soak that a clean one does not have; empty if nothing did. An older
    condition is what the tests are to judge, as without a soak."""
    if not policy.revalidation_clean_seconds or not record.passes:
        return ""
    began = record.passes[0]
    if node.ready_since > began:
        return "NotReady"
    known = (*policy.hardware_conditions, *policy.performance_conditions)
    lasting = (c.type for c in node.conditions if c.type in known and began < c.since <= now - policy.condition_seconds)
    return next(lasting, "")


def _beyond_tests(record: NodeRecord) -> bool:
    """Whether pair tests found the fault: no test of the node alone can clear it, so a person must repair it first."""
    cordon = record.cordon
    return cordon is not None and cordon.source == "pairs" and record.ignore_before < cordon.at


def _waiting(record: NodeRecord, reason: str, now: float) -> NodeRecord:
    state = NodeState.BURN_IN if suite_of(record) == "burn-in" else NodeState.QUARANTINED
    return replace(record, state=state, since=now, reason=reason)


def _recent(record: NodeRecord, policy: Policy, now: float) -> list[float]:
    since = max(now - policy.lemon_window_seconds, record.lemon_since)
    return [event.at for event in record.quarantines if event.at > since]


def _is_lemon(record: NodeRecord, policy: Policy, now: float) -> bool:
    return len(_recent(record, policy, now)) >= policy.lemon_quarantines
