"""From a node's pods, reports and conditions to signals, and from signals to the state that they justify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lehr.infra.fleet.fleet_view import FleetView, ReporterScore
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.views import NodeRecord, NodeView, Outcome, PodView, Report, Signal, Verdict

MAX_SIGNALS = 24  # in a record: bounds the size of the annotation
REPORT_CHARACTERS = 200  # of each report kept in a node's record
LINK = "link"  # the check of signals that accuse the network between nodes, not a node


@dataclass(frozen=True)
class Judgement:
    """What the evidence justifies. `signal` is the one to name as the cause."""

    quarantine: bool
    suspect: bool
    signal: Signal | None = None


def is_bad(verdict: Verdict) -> bool:
    """Whether the gate holds pods with this verdict and the controller deletes them."""
    return verdict.outcome is Outcome.HARDWARE_FAILURE and verdict.confirmed


def update_signals(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> NodeRecord:
    """`record` with the node's new evidence. The same object if nothing is new, so that nothing is written."""
    kept = tuple(s for s in record.signals if _counts(s, record, policy, now))
    known = {s.key for s in kept}
    fresh = [s for s in _signals(node, record, policy, now) if s.key not in known and _counts(s, record, policy, now)]
    fresh.sort(key=lambda s: not s.confirmed)
    room = MAX_SIGNALS - len(kept)
    if room <= 0 and any(s.confirmed for s in fresh) and not any(s.confirmed for s in kept):
        kept, room = kept[1:], 1  # a flood of reports must not displace the one signal that decides
    if not fresh or room <= 0:
        return record
    return replace(record, signals=kept + tuple(fresh[:room]))


def judge(record: NodeRecord, fleet: FleetView, policy: Policy, now: float) -> Judgement:
    """Weigh those signals of the record that still count."""
    live = [s for s in record.signals if _counts(s, record, policy, now) and s.check not in policy.observe_only_checks]
    hardware = [s for s in live if s.outcome is Outcome.HARDWARE_FAILURE and s.source != "report"]
    confirmed = [s for s in hardware if s.confirmed]
    slow = [s for s in live if s.outcome is Outcome.PERFORMANCE_FAILURE]
    if confirmed:
        return Judgement(True, True, confirmed[0])
    if _voices(hardware) >= policy.unconfirmed_hardware_signals:
        return Judgement(True, True, hardware[-1])
    if _voices(slow) >= policy.performance_signals:
        return Judgement(True, True, slow[-1])
    reports = [s for s in live if s.source == "report"]
    weights = {s.by: weight(fleet.reporters.get(s.by, ReporterScore())) for s in reports}
    total = sum(weights.values())
    if total >= policy.report_quarantine_weight and len(weights) >= policy.report_quarantine_reporters:
        return Judgement(True, True, reports[-1])
    links = [s for s in live if s.check == LINK]
    if hardware or slow or links or total >= policy.report_suspect_weight:
        return Judgement(False, True, (hardware or slow or links or reports)[-1])
    return Judgement(False, False)


def _voices(signals: list[Signal]) -> int:
    """The number of independent sources: each pod's check is one, but all trainers of one tenant together are one."""
    return len({s.by or s.key for s in signals})


def weight(score: ReporterScore) -> float:
    """The posterior mean of a reporter being right, under a uniform Beta prior: 0.5 for a new reporter."""
    return (score.confirmed + 1) / (score.confirmed + score.refuted + 2)


def hung_with(record: NodeRecord, policy: Policy, now: float) -> str:
    """The execution whose hang makes the node a suspect; empty if anything else accuses it too, or nothing does."""
    live = [s for s in record.signals if _counts(s, record, policy, now) and s.check not in policy.observe_only_checks]
    return live[-1].by if live and all(s.check == LINK and not s.confirmed for s in live) else ""


def _counts(signal: Signal, record: NodeRecord, policy: Policy, now: float) -> bool:
    return signal.at > max(now - policy.signal_window_seconds, record.ignore_before)


def _signals(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Iterator[Signal]:
    # Devices and drivers settle after a start: early failures are recorded, but only cordon the node if they recur.
    settled = node.ready_since + policy.startup_grace_seconds
    for pod in node.pods:
        if pod.trusted and pod.verdict is not None and (signal := _of_verdict(pod, pod.verdict, now)) is not None:
            yield signal if signal.at >= settled else replace(signal, confirmed=False)
    yield from _of_trainers(node, record, policy, now)
    yield from _of_reports(node, record, policy, now)
    for condition in node.conditions:
        hardware = condition.type in policy.hardware_conditions
        if not hardware and condition.type not in policy.performance_conditions:
            continue
        if condition.since <= record.ignore_before:  # overruled by a person, a repair or two passed tests
            continue
        if now < max(condition.since, settled) + policy.condition_seconds:
            continue
        outcome = Outcome.HARDWARE_FAILURE if hardware else Outcome.PERFORMANCE_FAILURE
        key = f"condition/{condition.type}/{condition.since:.0f}"
        # Dated now, since the condition still holds, whenever it began.
        yield Signal(key, now, "condition", outcome, condition.type, "", condition.reason or condition.type, hardware)


def _of_reports(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Iterator[Signal]:
    """One signal for each reporter, the newest: further ones add no weight, and would leave no room for others'."""
    heard = {s.by for s in record.signals if s.source == "report" and _counts(s, record, policy, now)}
    newest: dict[str, Report] = {}
    for report in node.reports:
        if report.by not in heard and (report.by not in newest or report.at > newest[report.by].at):
            newest[report.by] = report
    for report in newest.values():
        key, at, words = f"report/{report.id}", min(report.at, now), report.reason[:REPORT_CHARACTERS]
        kind = Outcome.HARDWARE_FAILURE
        yield Signal(key, at, "report", kind, reason="ReportedByUser", by=report.by, detail=words)


def _of_trainers(node: NodeView, record: NodeRecord, policy: Policy, now: float) -> Iterator[Signal]:
    """The exit codes of trainers, once for each tenant: any program can exit with our codes, as often as it likes."""
    heard = {(s.reason, s.by) for s in record.signals if s.source == "trainer" and _counts(s, record, policy, now)}
    for pod in node.pods:
        if not pod.trusted or (pod.exit_code == NAMES.exit_hang and pod.nodes > policy.pair_nodes_max):
            continue
        if pod.exit_code not in (NAMES.exit_suspect, NAMES.exit_hang):
            continue
        signal = _of_trainer(pod, now)
        if (signal.reason, signal.by) not in heard and _counts(signal, record, policy, now):
            heard.add((signal.reason, signal.by))
            yield signal


def _of_trainer(pod: PodView, now: float) -> Signal:
    """A trainer's signal: its node failed, or training hung. On a single node a hang is the node's; among several the network
    may be the cause: `by` is then the execution, so that nodes that hung together are tested together."""
    at = max(pod.created_at, min(pod.ended_at or now, now))
    if pod.exit_code == NAMES.exit_suspect:  # the trainer accuses its own node
        kind, reason = Outcome.HARDWARE_FAILURE, "NodeSuspectedByTrainer"
        return Signal(f"exit/{pod.uid}", at, "trainer", kind, "trainer", "", reason, by=pod.namespace)
    key, slow = f"hang/{pod.uid}", Outcome.PERFORMANCE_FAILURE
    if pod.nodes > 1:
        by = f"{pod.namespace}/{pod.execution or pod.run or pod.name}"
        return Signal(key, at, "trainer", Outcome.INCONCLUSIVE, LINK, "", "HangDetected", by=by)
    return Signal(key, at, "trainer", slow, "trainer", "", "HangDetected", by=pod.namespace)


def _of_verdict(pod: PodView, verdict: Verdict, now: float) -> Signal | None:
    # The node's clock may be wrong. If ahead, the signal would outlive a person's decision; if behind, it would look stale.
    at = max(pod.created_at, min(verdict.finished_at or now, now))
    key = f"pod/{pod.uid}"
    if verdict.outcome in (Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE):
        confirmed = is_bad(verdict)
        return Signal(key, at, "preflight", verdict.outcome, verdict.check, verdict.version, verdict.reason, confirmed)
    once = next((r for r in verdict.results if r.outcome is Outcome.HARDWARE_FAILURE), None)
    if verdict.outcome is Outcome.INCONCLUSIVE and once is not None:  # it failed, but the second run passed
        return Signal(key, at, "preflight", Outcome.HARDWARE_FAILURE, once.check, verdict.version, once.reason)
    return None
