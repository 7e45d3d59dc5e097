"""The decision, told as stories: people, their reports, and the breakers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from lehr.infra.fleet.actions import Cordon, DeletePod, OpenBreaker, RecordHold, Release, SetState, StartRevalidation
from lehr.infra.fleet.policy import DAY, HOUR, MINUTE
from lehr.infra.fleet.views import CheckResult, HumanAct, NodeView, Outcome, Report
from tests.infra.world import NOW, World, pod, verdict

BAD = verdict()
SLOW = verdict(Outcome.PERFORMANCE_FAILURE, reason="H2DBandwidthLow", check="bandwidth")
ONCE = verdict(Outcome.INCONCLUSIVE, results=(CheckResult("matmul", Outcome.HARDWARE_FAILURE, "MatmulMismatch"),))


def node(name: str = "n1", **changes: object) -> NodeView:
    return NodeView(name, **changes)  # type: ignore[arg-type]


def quarantined(**changes: object) -> World:
    world = World(node(pods=(pod("p1", BAD),), **changes))
    world.settle()
    assert world.state() in ("quarantined", "revalidating")
    return world


def revalidate(world: World, outcome: Outcome | None) -> None:
    world.settle()
    world.wait(2 * MINUTE)
    assert world.finish_jobs(outcome) == 1
    world.settle()


# People


def test_persons_cordon_is_kept_with_name_and_reason_and_never_released() -> None:
    world = World(node(unschedulable=True, unschedulable_by="ada", pods=(pod("p1", BAD),)))
    (first,) = world.step()
    assert isinstance(first, RecordHold)
    assert first.hold.by == "ada"
    assert [a.kind for a in world.settle()] == ["delete-pod"]
    world.wait(30 * DAY)
    assert world.settle() == []
    assert world.nodes["n1"].unschedulable


def test_hold_with_an_end_is_released_at_its_end() -> None:
    world = World(node(unschedulable=True, hold=HumanAct("ada", "cables", NOW, until=NOW + HOUR)))
    assert world.settle() == []
    world.wait(HOUR)
    world.settle()
    assert not world.nodes["n1"].unschedulable
    assert "ada" in str([a.reason for _, a in world.log if isinstance(a, Release)])


def test_hold_on_top_of_our_quarantine_stops_the_way_back() -> None:
    world = quarantined()
    world.change("n1", hold=HumanAct("ada", "I look at it", world.now))
    world.finish_jobs(Outcome.PASS)
    world.wait(DAY)
    assert world.settle() == []
    world.change("n1", hold=None)
    world.settle()
    assert world.state() in ("quarantined", "revalidating")


@pytest.mark.parametrize("act", [None, HumanAct("ada", "I know better", NOW + 60)])
def test_persons_uncordon_wins_for_a_day_over_old_and_new_evidence(act: HumanAct | None) -> None:
    world = World(node(pods=(pod("p1", BAD),)))
    world.step()
    world.wait(MINUTE)
    world.change("n1", unschedulable=False, override=act)
    world.settle()
    assert world.state() == "suspect"
    record = world.nodes["n1"].record
    assert record is not None
    assert record.override is not None
    assert record.override.by == (act.by if act else "unknown (kubectl)")
    world.wait(HOUR)
    world.change("n1", pods=(pod("p1", BAD), pod("p2", verdict(at=world.now))))
    world.settle()
    assert not world.nodes["n1"].unschedulable
    assert any(isinstance(a, SetState) and a.event == "QuarantineBlocked" for _, a in world.log)
    world.wait(DAY)
    world.change("n1", pods=(pod("p3", verdict(at=world.now)),))
    world.settle()
    assert world.nodes["n1"].unschedulable


def test_uncordon_of_a_running_revalidation_ends_its_job() -> None:
    world = quarantined()
    assert world.nodes["n1"].jobs
    world.change("n1", unschedulable=False, pods=(pod("new", None),))
    world.settle()
    assert world.nodes["n1"].jobs == ()


# Reports


def report(number: int, by: str) -> Report:
    return Report(f"r{number}", by, "slow", NOW)


def test_reports_weigh_by_person_and_past() -> None:
    alone = World(node(reports=tuple(report(i, "bob") for i in range(50))))
    alone.change("n1", pods=(pod("x", None, at_gate=False),))
    alone.settle()
    assert alone.state() == "suspect"  # one person, however loud
    many = World(node(reports=tuple(report(i, f"user{i}") for i in range(3))))
    many.settle()
    assert many.nodes["n1"].unschedulable


def test_reporter_whose_reports_were_wrong_loses_weight_and_one_who_was_right_gains_it() -> None:
    world = World(node("n1", reports=(report(1, "bob"), report(2, "eve"), report(3, "joe"))))
    for _ in range(2):
        revalidate(world, Outcome.PASS)
        world.wait(16 * MINUTE)
    assert world.state() == "healthy"
    world.nodes["n2"] = node("n2", reports=(Report("r4", "bob", "again", world.now),))
    world.settle()
    assert world.state("n2") == "healthy"  # 1/3 is under the threshold


# Breakers


def test_check_that_fails_everywhere_is_stopped_and_recovery_goes_on() -> None:
    world = World(*(node(f"n{i}", pods=(pod(f"p{i}", BAD),)) for i in range(2048)))
    world.settle()
    cordoned = [n for n in world.nodes.values() if n.unschedulable]
    assert 2 <= len(cordoned) <= 8
    assert sum(isinstance(a, OpenBreaker) for _, a in world.log) == 2048 - len(cordoned)
    assert {a.node for _, a in world.log if isinstance(a, DeletePod)} == {n.name for n in cordoned}
    for _ in range(2):
        world.wait(16 * MINUTE)
        world.settle()
        world.finish_jobs(Outcome.PASS)
        world.settle()
    back = [n for n in cordoned if not world.nodes[n.name].unschedulable]
    assert len(back) == len(cordoned)


def test_waiting_nodes_get_one_cordon_per_half_hour() -> None:
    rack = [node(f"n{i}", rack="r1", pods=(pod(f"p{i}", BAD),)) for i in range(8)]
    world = World(*rack, *(node(f"m{i}") for i in range(400)))
    times: list[float] = []
    for _ in range(5 * 60):
        times += [world.now for a in world.settle() if isinstance(a, Cordon)]
        world.wait(MINUTE)
    assert len([t for t in times if t < NOW + HOUR]) == 2
    assert len(times) >= 6
    assert min(b - a for a, b in pairwise(times[1:])) >= 30 * MINUTE


def test_persons_reset_opens_the_way_for_a_waiting_node() -> None:
    rack = [node(f"n{i}", rack="r1", pods=(pod(f"p{i}", BAD),)) for i in range(4)]
    world = World(*rack, *(node(f"m{i}") for i in range(400)))
    world.settle()
    waiting = [n for n in world.nodes if n.startswith("n") and not world.nodes[n].unschedulable]
    assert len(waiting) == 2
    world.wait(MINUTE)
    assert world.settle() == []
    world.resets = {"rack/r1": world.now}
    world.wait(MINUTE)
    world.settle()
    assert all(world.nodes[n].unschedulable for n in waiting)


def test_small_pool_may_always_lose_two_nodes_at_a_time_and_not_more() -> None:
    world = World(*(node(f"n{i}", pods=(pod(f"p{i}", BAD),)) for i in range(8)))
    for _ in range(600):
        world.settle()
        world.wait(MINUTE)
    assert sum(n.unschedulable for n in world.nodes.values()) == 2


# Clocks


def test_a_clock_that_is_set_back_makes_no_room_for_more_cordons() -> None:
    """Six nodes were cordoned by a clock that ran 40 minutes ahead: now that it is right, they count as ever."""
    world = World(*(node(f"n{i}", pods=(pod(f"p{i}", BAD),) if i < 6 else ()) for i in range(2048)), now=NOW + 40 * MINUTE)
    assert len([a for a in world.step() if isinstance(a, Cordon)]) == 6
    world.now = NOW
    for i in range(6, 12):
        world.nodes[f"n{i}"] = replace(world.nodes[f"n{i}"], pods=(pod(f"p{i}", BAD),))
    assert not [a for a in world.step() + world.step() if isinstance(a, Cordon)]


def test_a_test_that_a_wrong_clock_put_off_for_days_comes_at_once() -> None:
    world = quarantined()
    revalidate(world, Outcome.PASS)
    away = world.nodes["n1"]
    assert away.record is not None
    world.nodes["n1"] = replace(away, record=replace(away.record, next_attempt_at=world.now + 10 * DAY))
    assert [type(a) for a in world.step()] == [StartRevalidation]
    world.nodes["n1"] = replace(away, record=replace(away.record, next_attempt_at=world.now + 14 * MINUTE))
    assert world.step() == []
