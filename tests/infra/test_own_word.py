"""What stands on a node speaks of that node only: whoever can write one node's annotations has no say about the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lehr.infra.fleet.actions import Cordon
from lehr.infra.fleet.breaker import statuses
from lehr.infra.fleet.policy import DAY, HOUR, Policy
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import (
    Blocked,
    CordonEvent,
    Disposition,
    NodeRecord,
    NodeState,
    NodeView,
    OpenPairTest,
    Outcome,
    PairTest,
    Report,
    Signal,
)
from tests.infra.world import NOW, POLICY, World, pod, verdict

KEYS = ("pool/default", "rack/r1", "check/matmul@1", "cap/default", "pool/other")
SIGNAL = Signal("pod/x", NOW, "preflight", Outcome.HARDWARE_FAILURE, "matmul", "1", "MatmulMismatch", True)


def events(*names: str, check: str = "matmul") -> tuple[CordonEvent, ...]:
    return tuple(CordonEvent(name, "default", "r1", check, "1", NOW - 60 - i) for i, name in enumerate(names))


INVENTED = {
    "cordons of others": NodeRecord(quarantines=events(*(f"n{i}" for i in range(2, 18)))),
    "cordons of its own": NodeRecord(quarantines=events(*["n1"] * 16)),
    "cordons to come": NodeRecord(quarantines=tuple(replace(e, at=NOW + 1800) for e in events(*["n1"] * 16))),
    "refusals": NodeRecord(blocked=Blocked(KEYS, NOW)),
    "refusals of a suspect": NodeRecord(NodeState.SUSPECT, NOW, signals=(SIGNAL,), blocked=Blocked(KEYS, NOW)),
}


@pytest.mark.parametrize("name", INVENTED)
def test_inventions_on_one_node_close_no_breaker_for_the_others(name: str) -> None:
    """The next bad nodes of the same pool and rack, found by the same check, are cordoned as ever."""
    liar = NodeView("n1", rack="r1", record=INVENTED[name], unschedulable=False, pods=(pod("busy", None, at_gate=False),))
    bad = (NodeView(f"n{i}", rack="r1", pods=(pod(f"p{i}", verdict()),)) for i in (2, 3))
    world = World(*bad, liar, *(NodeView(f"m{i}", rack="r1") for i in range(200)))
    fleet = fleet_view(world.nodes.values(), POLICY, NOW)
    assert not [s.key for s in statuses(fleet, POLICY, NOW) if s.open]
    assert [a.node for a in world.step() if isinstance(a, Cordon)][:2] == ["n2", "n3"]


def test_one_node_makes_no_reporter_right_or_wrong() -> None:
    """Two people whom an invented history believes would cordon any node that they name; one whom it refutes, none."""
    invented = tuple(
        Disposition(f"report/{by}{i}", by, NOW - DAY, by != "eve") for by in ("bob", "joe", "eve") for i in range(10)
    )
    liar = NodeView("n1", record=NodeRecord(dispositions=invented), reports=(Report("bob0", "bob", "slow", NOW - 2 * DAY),))
    scores = fleet_view([liar], POLICY, NOW).reporters
    assert {by: (s.confirmed, s.refuted) for by, s in scores.items()} == {"bob": (1, 0)}, "the one that he made there"
    other = NodeView("n2", reports=(Report("x", "bob", "slow", NOW), Report("y", "joe", "slow", NOW)))
    world = World(liar, other)
    world.settle()
    assert world.state("n2") == "suspect"


def test_pair_tests_that_one_node_invents_cost_that_node_alone() -> None:
    hang = Signal("hang/u", NOW, "trainer", Outcome.INCONCLUSIVE, "link", "", "HangDetected", by="e1")
    failed = tuple(PairTest(partner, passed, NOW) for partner, passed in (("n9", False), ("n9", False), ("n3", True)))
    liar = NodeView("n1", record=NodeRecord(NodeState.SUSPECT, NOW, signals=(hang,), pair_tests=failed))
    others = [NodeView(f"n{i}", record=NodeRecord(NodeState.SUSPECT, NOW, signals=(hang,))) for i in (3, 9)]
    passed = replace(others[1], record=replace(others[1].record or NodeRecord(), pair_tests=(PairTest("n3", True, NOW),)))
    links = fleet_view([liar, others[0], passed], Policy(), NOW).links
    assert links["n9"].verdict != "bad" and links["n3"].verdict != "bad" and links["n1"].verdict == "bad"
    endless = NodeView("n1", record=NodeRecord(NodeState.SUSPECT, pairing=OpenPairTest("n2", NOW + 1000 * DAY)))
    assert fleet_view([endless, NodeView("n2"), others[0]], Policy(), NOW).links["n3"].partner == "n2", "it is not kept busy"


def test_two_nodes_that_wait_keep_a_breaker_half_open() -> None:
    """What refusals are for still holds: a check that fails everywhere gets no second burst when its hour is over."""
    world = World(*(NodeView(f"n{i}", pods=(pod(f"p{i}", verdict()),)) for i in range(400)))
    world.settle()
    first = sum(n.unschedulable for n in world.nodes.values())
    world.wait(HOUR + 60)
    world.step()
    assert sum(n.unschedulable for n in world.nodes.values()) == first + 1
