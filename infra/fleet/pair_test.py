"""Pair tests among nodes on which the same work hung: which run now, what their Jobs reported, what all of them show together.

A hang accuses no single node: the work may have waited for any of them, or for the link between any two. `fault_isolation.py`
finds the fault in two passes. A test uses both nodes while they are idle, so it costs no training time. All results are in the
records of the nodes that began the tests. Of a bad link one node is cordoned: work that never runs on both ends never uses the
link.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lehr.infra.fleet import revalidation
from lehr.infra.fleet.actions import Action, SetState, StartPair
from lehr.infra.fleet.fault_isolation import Isolation, PairResult, isolate_fault
from lehr.infra.fleet.fleet_view import LinkView
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.signals import hung_with
from lehr.infra.fleet.views import JobView, NodeRecord, NodeState, NodeView, OpenPairTest, Outcome, PairTest

MAX_TESTS = 32


def link_views(nodes: Sequence[NodeView], policy: Policy, now: float) -> dict[str, LinkView]:
    """The result of pair tests for each suspect of a hang, by name. Without suspects it costs one look at each node."""
    groups: defaultdict[str, list[NodeView]] = defaultdict(list)
    for node in nodes:
        if node.managed and node.record is not None and node.record.state is NodeState.SUSPECT and not node.unschedulable:
            execution = hung_with(node.record, policy, now)
            if execution:
                groups[execution].append(node)
    if not groups:
        return {}
    free = {node.name for node in nodes if _is_free(node)} - _tested_now(nodes, policy, now)
    found: dict[str, LinkView] = {}
    for _, suspects in sorted(groups.items()):
        views = _of_group(suspects, nodes, free)
        found.update(views)
        free -= {name for n, view in views.items() if view.partner for name in (n, view.partner)}
    return found


def _is_free(node: NodeView) -> bool:
    return node.managed and node.ready and not node.unschedulable and not revalidation.occupied(node) and not node.jobs


def _tested_now(nodes: Iterable[NodeView], policy: Policy, now: float) -> set[str]:
    """Both nodes of every running test; a partner's own record does not mention the test."""
    running = ((n.name, n.record.pairing) for n in nodes if n.record is not None and n.record.pairing is not None)
    live = [(name, p.partner) for name, p in running if abs(now - p.since) <= policy.pair_timeout_seconds]
    return {name for pair in live for name in pair}


def _of_group(suspects: list[NodeView], nodes: Sequence[NodeView], free: set[str]) -> dict[str, LinkView]:
    names = {node.name for node in suspects}
    records = {node.name: node.record for node in suspects if node.record is not None}
    proven = {node.name for node in nodes if _is_proven(node)}  # known to be bad: tests that failed with them are explained
    tests = [(name, test) for name, record in records.items() for test in record.pair_tests if test.partner not in proven]
    pools = {node.pool for node in suspects}
    # A partner from outside the group was healthy and idle when it was tested, whatever its present state.
    good = {test.partner for _, test in tests} | {n.name for n in nodes if n.name in free and n.pool in pools and _is_sound(n)}
    results = [PairResult(name, test.partner, test.passed) for name, test in tests]
    now, wanted = isolate_fault(names, good - names, results, free), isolate_fault(names, good - names, results)
    starts = {max(n for n in pair if n in names): pair for pair in now.next_pairs}
    done = not wanted.next_pairs and not any(record.pairing for record in records.values())
    bad = _accused(names, now, results)
    found: dict[str, LinkView] = {}
    for name in sorted(names):
        if name in starts:
            a, b = starts[name]
            found[name] = LinkView("open", b if name == a else a)
        elif name in bad and done:
            found[name] = bad[name]
        else:  # good ones keep their results until the bad ones have been dealt with, as tests of these rely on them
            found[name] = LinkView("good" if name in now.good and done and not bad else "open")
    return found


def _is_proven(node: NodeView) -> bool:
    return node.record is not None and any(signal.source == "pairs" for signal in node.record.signals)


def _is_sound(node: NodeView) -> bool:
    return node.record is None or node.record.state is NodeState.HEALTHY


def _accused(names: set[str], found: Isolation, results: list[PairResult]) -> dict[str, LinkView]:
    bad = {}
    for name in found.bad_nodes:
        partners = sorted({t.b if t.a == name else t.a for t in results if name in (t.a, t.b) and not t.passed})
        bad[name] = LinkView("bad", "", "NetworkFault", f"all-reduce fails with {', '.join(partners)}")
    for pair in found.bad_links:
        # One end is enough, and always the same one: the node whose record holds the test.
        name = max(t.a for t in results if not t.passed and {t.a, t.b} == set(pair))
        other = pair[0] if name == pair[1] else pair[1]
        bad.setdefault(name, LinkView("bad", "", "BadLink", f"all-reduce fails with {other}, and both pass with others"))
    return bad


def next_step(node: NodeView, record: NodeRecord, link: LinkView, policy: Policy, now: float) -> Action | None:
    """Start the pair test that is due, or clear a node that passed. None: nothing to do yet."""
    if link.verdict == "good":
        calm = revalidation.settled(record, NodeState.HEALTHY, "passed its pair tests", now, confirmed=False)
        calm = replace(calm, signals=(), ignore_before=now, pair_tests=(), attempt=record.attempt + 1)
        return SetState(node.name, calm, calm.reason, "NodeCleared")
    if not link.partner or not revalidation.due(record, policy, now):
        return None
    begun = replace(record, attempt=record.attempt + 1, pairing=OpenPairTest(link.partner, now))
    return StartPair(node.name, begun, begun.attempt, link.partner, "listen")


def running(node: NodeView, record: NodeRecord, pairing: OpenPairTest, policy: Policy, now: float) -> list[Action]:
    """The next step of a running test: the listening Job, the connecting one once there is an address, or the result."""
    jobs = {job.role: job for job in node.jobs if job.attempt == record.attempt and job.role}
    passed = _result(jobs.get("listen"), jobs.get("connect"))
    if passed is None and now - pairing.since <= policy.pair_timeout_seconds and not _silent(jobs):
        return _started(node, record, pairing, jobs)
    # The attempt number is advanced, so that the test's Jobs are deleted.
    after = replace(record, pairing=None, attempt=record.attempt + 1)
    if passed is None:
        return [
            SetState(node.name, replace(after, next_attempt_at=now + policy.revalidation_backoff_seconds), record.reason, "")
        ]
    tests = (*record.pair_tests, PairTest(pairing.partner, passed, now))[-MAX_TESTS:]
    event = "PairTestPassed" if passed else "PairTestFailed"
    return [SetState(node.name, replace(after, pair_tests=tests), f"with {pairing.partner}", event)]


def _started(node: NodeView, record: NodeRecord, pairing: OpenPairTest, jobs: dict[str, JobView]) -> list[Action]:
    if "listen" not in jobs:  # not created yet: the controller may have stopped between record and Job
        return [StartPair(node.name, record, record.attempt, pairing.partner, "listen", event="")]
    address = jobs["listen"].address
    if "connect" not in jobs and address:
        return [StartPair(node.name, record, record.attempt, pairing.partner, "connect", address, event="")]
    return []


def _result(listen: JobView | None, connect: JobView | None) -> bool | None:
    """None until both sides have a verdict: a side that waits in vain proves nothing about the link."""
    if listen is None or connect is None or listen.verdict is None or connect.verdict is None:
        return None
    outcomes = {listen.verdict.outcome, connect.verdict.outcome}
    if outcomes & {Outcome.HARDWARE_FAILURE, Outcome.PERFORMANCE_FAILURE}:
        return False
    return True if outcomes == {Outcome.PASS} else None


def _silent(jobs: dict[str, JobView]) -> bool:
    """Whether no result can come any more: a side has ended without a verdict, or both have ended."""
    ended = [job for job in jobs.values() if job.finished_at is not None]
    return len(ended) == 2 or any(job.verdict is None for job in ended) or (bool(ended) and "connect" not in jobs)
