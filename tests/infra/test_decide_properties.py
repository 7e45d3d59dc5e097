"""What must hold for every view, every fleet and every history."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.infra.fleet.actions import Cordon, DeletePod, Release, StartRevalidation, writes_node
from lehr.infra.fleet.breaker import limit, poisson_quantile, statuses
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.effects import applied
from lehr.infra.fleet.fleet_view import FleetView, PoolView, ReporterScore
from lehr.infra.fleet.policy import DAY, HOUR, MINUTE, Policy
from lehr.infra.fleet.serialization import decode, encode
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import (
    CORDONED_STATES,
    Blocked,
    Condition,
    CordonEvent,
    CordonRecord,
    HumanAct,
    JobView,
    NodeRecord,
    NodeState,
    NodeView,
    Outcome,
    PodView,
    Report,
    Signal,
    Verdict,
)
from tests.infra.world import NOW, World, pod, verdict

names = st.sampled_from(["a", "b", "c"])
times = st.sampled_from([0.0, NOW - 30 * DAY, NOW - DAY, NOW - HOUR, NOW - MINUTE, NOW, NOW + HOUR])
outcomes = st.sampled_from(Outcome)
acts = st.none() | st.builds(HumanAct, names, names, times, st.none() | times)
verdicts = st.builds(Verdict, outcomes, names, names, names, confirmed=st.booleans(), finished_at=times)
cordons = st.builds(CordonRecord, names, st.sampled_from(["preflight", "condition", "report", "burn-in"]), names, times)
events = st.builds(CordonEvent, names, st.just("default"), st.sampled_from(["", "r1"]), names, names, times)
signals = st.builds(
    Signal,
    names,
    times,
    st.sampled_from(["preflight", "report", "condition"]),
    outcomes,
    names,
    confirmed=st.booleans(),
    by=names,
)
records = st.builds(
    NodeRecord,
    state=st.sampled_from(NodeState),
    since=times,
    cordon=st.none() | cordons,
    signals=st.lists(signals, max_size=3).map(tuple),
    quarantines=st.lists(events, max_size=4).map(tuple),
    passes=st.lists(times, max_size=2).map(tuple),
    failures=st.integers(0, 3),
    inconclusive=st.integers(0, 6),
    attempt=st.integers(0, 3),
    next_attempt_at=times,
    blocked=st.none() | st.builds(Blocked, st.just(("pool/default",)), times),
    ignore_before=times,
    override=acts,
)
pods = st.builds(PodView, names, names, names, times, st.none() | verdicts, st.booleans(), st.booleans(), st.booleans())
jobs = st.builds(JobView, names, names, st.integers(0, 4), times, st.none() | times, st.none() | verdicts, st.booleans())
views = st.builds(
    NodeView,
    st.just("n1"),
    rack=st.sampled_from(["", "r1"]),
    managed=st.sampled_from([True, True, True, False]),
    unschedulable=st.booleans(),
    ready_since=times,
    created_at=times,
    record=st.none() | records,
    hold=acts,
    override=acts,
    repaired=acts,
    pods=st.lists(pods, max_size=3, unique_by=lambda p: p.uid).map(tuple),
    jobs=st.lists(jobs, max_size=2, unique_by=lambda j: j.uid).map(tuple),
    reports=st.lists(st.builds(Report, names, names, names, times), max_size=4).map(tuple),
    conditions=st.lists(st.builds(Condition, st.sampled_from(["NvlinkDown", "GpuThrottled", "Other"]), names, times)).map(
        tuple
    ),
)
fleets = st.builds(
    FleetView,
    pools=st.fixed_dictionaries({"default": st.builds(PoolView, st.integers(1, 3000), st.integers(0, 200))}),
    racks=st.fixed_dictionaries({"r1": st.integers(1, 64)}),
    cordons=st.lists(events, max_size=12).map(tuple),
    blocked=st.dictionaries(st.sampled_from(["pool/default", "rack/r1", "check/a@b"]), times),
    reporters=st.dictionaries(names, st.builds(ReporterScore, st.integers(0, 9), st.integers(0, 9))),
)
policies = st.sampled_from(
    [
        Policy(),
        Policy(burn_in_created_after=NOW - DAY),
        Policy(observe_only_checks=("a",)),
        Policy(revalidation_clean_seconds=HOUR),
    ]
)


@settings(max_examples=800, deadline=None)
@given(views, fleets, policies)
def test_every_view_comes_to_rest_and_only_our_own_things_are_touched(view: NodeView, fleet: FleetView, policy: Policy) -> None:
    seen = view
    for _ in range(12):
        actions = decide(seen, fleet, policy, NOW)
        assert sum(map(writes_node, actions)) <= 1
        for action in actions:
            assert action.node == "n1"
            if isinstance(action, DeletePod):
                target = next(p for p in seen.pods if p.uid == action.uid)
                assert seen.unschedulable
                assert not target.deleting
                assert target.verdict is not None or not target.at_gate
            if isinstance(action, Cordon):
                assert not seen.unschedulable
                assert seen.hold is None
                assert decode(NodeRecord, encode(action.record)) == action.record
            if isinstance(action, Release):
                ours = seen.record is not None and seen.record.cordon is not None
                ended = seen.hold is not None and seen.hold.until is not None and seen.hold.until <= NOW
                assert ended if not ours else seen.hold is None
        if not view.managed:
            assert actions == []
        if not actions:
            break
        for action in actions:
            seen = applied(seen, action, NOW)
    else:
        raise AssertionError(f"never at rest: {actions}")
    if view.managed and not seen.unschedulable:
        record = seen.record or NodeRecord()
        assert record.state not in CORDONED_STATES
        assert record.cordon is None


@settings(max_examples=400, deadline=None)
@given(views, fleets, fleets)
def test_breakers_stop_automatic_cordons_and_nothing_else(view: NodeView, one: FleetView, other: FleetView) -> None:
    """Whatever the rest of the fleet does: releases, revalidations, repairs and people's acts are decided the same."""
    first, second = (decide(view, replace(fleet, reporters={}), Policy(), NOW) for fleet in (one, other))
    if first != second:
        kinds = {a.kind for a in (*first, *second)}
        assert kinds <= {"cordon", "set-state", "open-breaker"}
        assert not view.unschedulable
        assert "cordon" in kinds or "open-breaker" in kinds


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 40),
    st.lists(st.tuples(st.integers(0, 39), st.sampled_from([0, 60, 600, 1800, 3600]), st.sampled_from("xyz")), max_size=60),
    st.integers(1, 10),
)
def test_no_window_ever_holds_more_cordons_than_its_limits(size: int, faults: list[tuple[int, int, str]], racks: int) -> None:
    policy = Policy(max_cordoned_fraction=1.0)
    world = World(*(NodeView(f"n{i}", rack=f"r{i % racks}") for i in range(size)), policy=policy)
    for number, (index, pause, check) in enumerate(faults):
        found = verdict(at=world.now, check=check)
        world.change(f"n{index % size}", pods=(pod(f"p{number}", found),))
        world.settle()
        world.wait(pause)
    done = [(at, a.record.quarantines[-1]) for at, a in world.log if isinstance(a, Cordon)]
    for at, _ in done:
        window = [e for then, e in done if at - policy.breaker_window_seconds < then <= at]
        assert len(window) <= limit(size, policy)
        for rack in {e.rack for e in window}:
            assert sum(e.rack == rack for e in window) <= limit(sum(i % racks == int(rack[1:]) for i in range(size)), policy)
        for check in {e.check for e in window}:
            assert sum(e.check == check for e in window) <= limit(size, policy, policy.check_share)
    fleet = fleet_view(world.nodes.values(), policy, world.now)
    assert all(0 <= s.budget <= s.limit and s.open == (s.budget == 0) for s in statuses(fleet, policy, world.now))


ends = ["bad", "slow", "quiet", "job-pass", "job-pass", "job-fail", "job-none"]
acts_on_it = ["hold", "unhold", "uncordon", "repaired", "reboot", "throttled", "calm"]
steps = st.lists(st.tuples(st.sampled_from([*ends, *acts_on_it]), st.sampled_from([0, 60, 899, 901, 7200])), max_size=40)


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([0.0, HOUR, 4 * HOUR]))
def test_any_history_people_win_and_nobody_returns_without_passes_apart_and_clean_hours(
    history: list[tuple[str, int]], clean: float
) -> None:
    world = World(NodeView("n1"), policy=Policy(revalidation_clean_seconds=clean))
    passes: list[float] = []
    uncordoned_at = -DAY
    for number, (event, pause) in enumerate(history):
        before = world.nodes["n1"]
        if event in ("bad", "slow", "quiet"):
            kind = {"bad": Outcome.HARDWARE_FAILURE, "slow": Outcome.PERFORMANCE_FAILURE, "quiet": Outcome.PASS}[event]
            fresh = () if event == "quiet" else (pod(f"p{number}", verdict(kind, world.now)),)
            world.change("n1", pods=fresh)
        elif event.startswith("job"):
            outcome = {"job-pass": Outcome.PASS, "job-fail": Outcome.HARDWARE_FAILURE, "job-none": None}[event]
            if world.finish_jobs(outcome):
                passes = [*passes, world.now] if outcome is Outcome.PASS else [] if outcome else passes
        elif event == "hold":
            world.change("n1", unschedulable=True, hold=HumanAct("ada", "mine", world.now))
        elif event == "unhold" and before.hold is not None:
            world.change("n1", unschedulable=False, hold=None, override=HumanAct("ada", "done", world.now))
            uncordoned_at, passes = world.now, []
        elif event == "uncordon" and before.unschedulable:
            world.change("n1", unschedulable=False)
            uncordoned_at, passes = world.now, []
        elif event == "repaired":
            world.change("n1", repaired=HumanAct("ada", "fixed", world.now))
            passes = []
        elif event == "reboot":
            world.change("n1", ready_since=world.now)
            passes = [] if clean and passes and passes[0] < world.now else passes
        elif event in ("throttled", "calm"):
            there = (Condition("GpuThrottled", "HwSlowdown", world.now),) if event == "throttled" else ()
            world.change("n1", conditions=before.conditions or there if event == "throttled" else ())
        since = [c.since for c in world.nodes["n1"].conditions]
        if clean and passes and any(passes[0] < t <= world.now - 2 * MINUTE for t in since):
            passes = []
        held = world.nodes["n1"].hold
        for action in world.settle():
            if isinstance(action, Cordon):
                assert world.now >= uncordoned_at + DAY, "a person's uncordon must win"
                assert held is None
                passes = []
            if isinstance(action, Release):
                assert held is None, "a person's cordon must win"
                assert len(passes) >= 2
                assert passes[-1] - passes[-2] >= 15 * MINUTE
                assert passes[-1] - passes[0] >= clean
            if isinstance(action, StartRevalidation):
                assert held is None
        world.wait(pause)


def test_poisson_limits_are_those_of_the_reference() -> None:
    assert [poisson_quantile(8 * 1.97e-5 * n, 1e-6) for n in (128, 512, 2048)] == [3, 4, 6]
    assert [limit(n, Policy()) for n in (3, 2048)] == [2, 8]
    for mean in (0.0, 0.01, 1.0, 30.0):
        k = poisson_quantile(mean, 1e-3)
        assert k == 0 or poisson_quantile(mean + 1.0, 1e-3) >= k
