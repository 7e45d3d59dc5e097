"""The decision, told as stories: what happens to a node, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lehr.infra.fleet.actions import Cordon, DeletePod
from lehr.infra.fleet.policy import DAY, HOUR, MINUTE, Policy
from lehr.infra.fleet.views import CheckResult, Condition, HumanAct, NodeRecord, NodeView, Outcome, PodView
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


def test_bad_verdict_cordons_then_deletes_the_one_pod_only_after_the_cordon_is_seen() -> None:
    world = World(node(pods=(pod("p1", BAD, run="tiny", step=7), pod("p2", verdict(Outcome.PASS), at_gate=False))))
    first = world.step()
    assert [a.kind for a in first] == ["cordon"]
    cordon = first[0]
    assert isinstance(cordon, Cordon)
    assert (cordon.cordon.source, cordon.cordon.reason, cordon.cordon.run, cordon.cordon.step) == (
        "preflight",
        "MatmulMismatch",
        "tiny",
        7,
    )
    second = world.step()
    assert [(a.kind, a.uid) for a in second if isinstance(a, DeletePod)] == [("delete-pod", "p1")]
    assert [p.uid for p in world.nodes["n1"].pods] == ["p2"]


@pytest.mark.parametrize(
    ("pods", "state"),
    [
        ([verdict(Outcome.PASS)], "none"),
        ([verdict(Outcome.INCONCLUSIVE)], "none"),
        ([ONCE], "suspect"),
        ([ONCE, ONCE], "quarantined"),
        ([SLOW], "suspect"),
        ([SLOW, SLOW], "suspect"),
        ([SLOW, SLOW, SLOW], "quarantined"),
        ([verdict(confirmed=False)], "suspect"),
        ([BAD], "quarantined"),
        ([verdict(at=NOW - 2 * DAY)], "none"),  # stale
    ],
)
def test_hysteresis_of_verdicts(pods: list, state: str) -> None:
    world = World(node(pods=tuple(pod(f"p{i}", v, at_gate=False) for i, v in enumerate(pods))))
    world.settle()
    assert world.state() == state


def test_same_pod_counts_once_however_often_it_is_seen() -> None:
    world = World(node(pods=(pod("p1", SLOW, at_gate=False),)))
    for _ in range(10):
        world.settle()
        world.wait(MINUTE)
    assert world.state() == "suspect"
    assert world.kinds() == ["set-state"]


def test_untrusted_image_and_unmanaged_node_are_ignored() -> None:
    for view in (node(pods=(pod("p1", BAD, trusted=False),)), node(managed=False, pods=(pod("p1", BAD),))):
        assert World(view).settle() == []


def test_failure_while_the_driver_settles_needs_a_second_pod() -> None:
    world = World(node(ready_since=NOW - 10, pods=(pod("p1", BAD, at_gate=False),)))
    world.settle()
    assert world.state() == "suspect"
    world.change("n1", pods=(pod("p2", BAD, at_gate=False),))
    world.settle()
    assert world.state() == "quarantined"


def test_one_tenants_word_never_cordons_however_often_it_is_said() -> None:
    """Any program can end with 172 or 173. The node is suspect and tested by us; a second tenant's word cordons."""

    def ended(uid: str, code: int, tenant: str = "train", **changes: object) -> PodView:
        return replace(pod(uid, None, at_gate=False, exit_code=code, ended_at=world.now, **changes), namespace=tenant)

    world = World(node())
    for number in range(30):
        codes = (172, 173)
        world.change("n1", pods=tuple(ended(f"p{number}-{code}", code) for code in codes))
        world.settle()
        assert world.state() == "suspect" and not world.nodes["n1"].unschedulable
        assert len((world.nodes["n1"].record or NodeRecord()).signals) <= 2, "no flood in the record"
        world.wait(MINUTE)
    world.change("n1", pods=())
    world.settle()
    assert "start-revalidation" in world.kinds(), "when it is idle, our own checks decide"
    world.change("n1", jobs=(), pods=(ended("other", 172, "eval"),))
    world.settle()
    assert world.nodes["n1"].unschedulable


def test_a_trainers_word_and_a_check_that_fails_once_are_two_voices() -> None:
    world = World(node(pods=(pod("p1", ONCE, at_gate=False), pod("p2", None, at_gate=False, exit_code=172, ended_at=NOW))))
    world.settle()
    assert world.nodes["n1"].unschedulable


def test_observe_only_check_never_acts() -> None:
    world = World(node(pods=(pod("p1", BAD),)), policy=Policy(observe_only_checks=("matmul",)))
    world.settle()
    assert not world.nodes["n1"].unschedulable
    assert world.state() == "healthy"


def test_condition_must_persist_and_ends_running_pods() -> None:
    found = Condition("NvlinkDown", "Link3", NOW)
    world = World(node(conditions=(found,), pods=(pod("run", None, at_gate=False),)))
    assert world.settle() == []
    world.wait(2 * MINUTE)
    world.settle()
    assert world.kinds()[:2] == ["cordon", "delete-pod"]


def test_quiet_suspect_gets_healthy_again() -> None:
    world = World(node(pods=(pod("p1", SLOW, at_gate=False),)))
    world.settle()
    world.wait(DAY + 1)
    world.change("n1", pods=(pod("busy", None, at_gate=False),))
    world.settle()
    assert world.state() == "healthy"


def test_idle_suspect_is_tested_and_the_test_decides() -> None:
    for outcome, state in ((Outcome.PASS, "healthy"), (Outcome.HARDWARE_FAILURE, "revalidating"), (None, "suspect")):
        world = World(node(pods=(pod("p1", ONCE, at_gate=False),)))
        world.settle()
        world.change("n1", pods=())
        revalidate(world, outcome)
        assert world.state() == state


def test_two_passes_fifteen_minutes_apart_return_the_node() -> None:
    world = quarantined()
    revalidate(world, Outcome.PASS)
    assert world.nodes["n1"].unschedulable
    assert world.settle() == []  # not before the gap
    world.wait(14 * MINUTE)
    assert world.settle() == []
    world.wait(MINUTE)
    revalidate(world, Outcome.PASS)
    assert world.state() == "healthy"
    assert not world.nodes["n1"].unschedulable
    assert world.nodes["n1"].jobs == ()
    assert world.settle() == []


def test_failed_revalidations_lead_to_repair_and_a_repair_leads_back() -> None:
    world = quarantined()
    revalidate(world, Outcome.PASS)
    world.wait(15 * MINUTE)
    revalidate(world, Outcome.HARDWARE_FAILURE)
    world.wait(15 * MINUTE)
    revalidate(world, Outcome.PERFORMANCE_FAILURE)
    assert world.state() == "repair"
    assert "flag-repair" in world.kinds()
    world.wait(3 * DAY)
    assert world.settle() == []
    world.change("n1", repaired=HumanAct("ada", "new baseboard", world.now))
    revalidate(world, Outcome.PASS)
    world.wait(15 * MINUTE)
    revalidate(world, Outcome.PASS)
    assert world.state() == "healthy"


def test_jobs_that_never_answer_end_in_repair_not_in_service() -> None:
    world = quarantined()
    for _ in range(40):
        world.settle()
        world.wait(31 * MINUTE)
    assert world.state() == "repair"
    assert sum(k == "start-revalidation" for k in world.kinds()) == 5


def test_second_quarantine_in_two_weeks_makes_a_lemon() -> None:
    world = World(node())
    for round_ in range(2):
        world.change("n1", pods=(pod(f"p{round_}", verdict(at=world.now)),))
        world.settle()
        if round_ < 1:
            for _ in range(2):
                revalidate(world, Outcome.PASS)
                world.wait(16 * MINUTE)
            assert world.state() == "healthy"
    assert world.state() == "lemon"
    world.change("n1", repaired=HumanAct("ada", "replaced it", world.now))
    world.settle()
    assert world.state() == "revalidating"


def test_new_node_burns_in_and_one_that_is_in_service_does_not() -> None:
    policy = Policy(burn_in_created_after=NOW - HOUR)
    world = World(node("old", created_at=NOW - DAY), node("n1", created_at=NOW - 60), policy=policy)
    world.settle()
    assert (world.state("old"), world.state()) == ("none", "revalidating")
    assert world.nodes["n1"].jobs
    for _ in range(2):
        revalidate(world, Outcome.PASS)
        world.wait(16 * MINUTE)
    assert world.state() == "healthy"
    busy = World(node(created_at=NOW - 60, pods=(pod("x", None, at_gate=False),)), policy=policy)
    assert busy.settle() == []


def test_revalidation_waits_until_the_last_pod_has_left() -> None:
    world = quarantined(reports=())
    world.change("n1", pods=(pod("left", None, at_gate=False),), jobs=(), record=None, unschedulable=False)
    world.change("n1", pods=(pod("left", None, at_gate=False), pod("p9", BAD)))
    world.settle()
    assert world.state() == "quarantined"
    world.change("n1", pods=())
    world.settle()
    assert world.state() == "revalidating"
