"""Pair tests decided and carried out against a hidden truth: the bad port or link goes, everybody else stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.infra.fleet.actions import StartPair
from lehr.infra.fleet.policy import NAMES, Policy
from lehr.infra.fleet.views import HumanAct, NodeView, Outcome, PodView
from tests.infra.world import World, verdict

NODES = [f"n{i}" for i in range(8)]


class Network(World):
    """Nodes, some with a bad `port`, some pairs with a bad `link`. `run` answers pair Jobs until nothing more is asked for."""

    def __init__(self, ports: Iterable[str] = (), links: Iterable[frozenset[str]] = (), policy: Policy | None = None) -> None:
        super().__init__(*(NodeView(name) for name in NODES), policy=policy or Policy())
        self.ports, self.links, self.answers = set(ports), set(links), 0

    def hang(self, names: Iterable[str], nodes: int | None = None, tenant: str = "train") -> None:
        names = list(names)
        for name in names:
            last = PodView(tenant, f"job-{name}", f"{name}-{self.now}", at_gate=False, execution="e1", ended_at=self.now)
            last = replace(last, exit_code=NAMES.exit_hang, nodes=len(names) if nodes is None else nodes)
            self.change(name, pods=(last,))
        self.step()
        for name in names:
            self.change(name, pods=())

    def run(self) -> None:
        for _ in range(200):
            asked = self.step()
            self._answer()
            if not asked:
                self.wait(60)
                if not self.step():
                    return
        raise AssertionError("never at rest")

    def _answer(self) -> None:
        running: list[set[str]] = []
        for name, node in self.nodes.items():
            if node.record is None or node.record.pairing is None:
                continue
            pair = {name, node.record.pairing.partner}
            running.append(pair)
            roles = {job.role for job in node.jobs if job.attempt == node.record.attempt}
            failed = bool(pair & self.ports) or frozenset(pair) in self.links
            ended = verdict(Outcome.HARDWARE_FAILURE if failed else Outcome.PASS, self.now, check="pair")
            if roles == {"listen"}:
                self.change(name, jobs=tuple(replace(job, address="10.0.0.1") for job in node.jobs))
            elif len(roles) == 2:
                self.answers += 1
                self.change(name, jobs=tuple(replace(job, finished_at=self.now, verdict=ended) for job in node.jobs))
        both = [name for pair in running for name in pair]
        assert len(both) == len(set(both)), f"a node in two tests at once: {running}"

    def cordoned(self) -> dict[str, str]:
        return {n: node.record.cordon.reason for n, node in self.nodes.items() if node.record and node.record.cordon}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(NODES), min_size=2, max_size=6), st.sampled_from(NODES), st.booleans(), st.randoms())
def test_a_hang_costs_the_bad_node_or_one_end_of_the_bad_link_and_nobody_else(
    group: set[str], bad: str, is_link: bool, random: Random
) -> None:
    names = sorted(group)
    port = {bad} & group if not is_link else set()
    ends = sorted(random.sample(names, 2))
    links = {frozenset(ends)} if is_link else set()
    world = Network(port, links)
    world.hang(names)
    assert {world.state(n) for n in names} == {"suspect"}
    world.run()
    found = world.cordoned()
    assert set(found) <= port | set().union(*links)
    if port:
        assert found == {bad: "NetworkFault"} and world.state(bad) == "repair"
    if is_link:
        assert found == {ends[1]: "BadLink"} and world.state(ends[1]) == "repair"
    assert all(world.state(n) == "healthy" for n in names if n not in found)
    assert all(not node.jobs for node in world.nodes.values()), "Jobs whose result is counted are deleted"


def test_two_nodes_with_a_bad_link_are_told_from_two_bad_nodes() -> None:
    world = Network(links=[frozenset(("n0", "n1"))])
    world.hang(["n0", "n1"])
    world.run()
    assert world.cordoned() == {"n1": "BadLink"} and world.state("n0") == "healthy"
    record = world.nodes["n1"].record
    assert record is not None and record.cordon is not None and "n0" in record.cordon.detail
    # A person mends it; what tests of the node alone can see is tested then.
    world.change("n1", repaired=HumanAct("olga", "new cable", world.now))
    world.settle()
    assert world.state("n1") == "revalidating"


def test_busy_nodes_are_left_alone_until_they_are_idle() -> None:
    world = Network(ports=["n0"])
    world.hang(["n0", "n1"])
    for name in NODES:
        world.change(name, pods=(PodView("train", f"new-{name}", f"u-{name}", at_gate=False),))
    world.run()
    assert "start-pair" not in world.kinds()
    for name in NODES:
        world.change(name, pods=())
    world.run()
    assert world.cordoned() == {"n0": "NetworkFault"}


def test_a_hang_of_many_accuses_nobody_and_one_of_a_single_node_is_slow_evidence() -> None:
    world = Network(policy=Policy(pair_nodes_max=4))
    world.hang(NODES, nodes=5)
    assert all(node.record is None for node in world.nodes.values())
    for _ in range(4):
        world.hang(["n0"], nodes=1)
        world.wait(60)
    assert world.cordoned() == {}, "all of one tenant's"
    for tenant in ("eval", "sweep"):
        world.hang(["n0"], nodes=1, tenant=tenant)
        world.wait(60)
    assert world.cordoned() == {"n0": "HangDetected"}


def test_a_test_that_says_nothing_is_tried_again_later_and_accuses_nobody() -> None:
    world = Network()
    world.hang(["n0", "n1"])
    world.settle()
    (owner,) = (n for n, node in world.nodes.items() if node.record and node.record.pairing)
    world.wait(world.policy.pair_timeout_seconds + 1)  # the partner's Job never ran
    world.settle()
    record = world.nodes[owner].record
    assert record is not None and record.pairing is None and not record.pair_tests and not world.nodes[owner].jobs
    before = sum(isinstance(a, StartPair) for _, a in world.log)
    world.wait(world.policy.revalidation_backoff_seconds + 1)
    world.run()
    assert sum(isinstance(a, StartPair) for _, a in world.log) > before and not world.cordoned()
    assert world.state("n0") == world.state("n1") == "healthy"


def test_an_open_breaker_stops_these_cordons_too_and_is_not_taken_for_two_bad_ends() -> None:
    world = Network(links=[frozenset(("n0", "n1"))], policy=Policy(max_cordoned_fraction=0.01, breaker_minimum=1))
    world.change("n7", pods=(PodView("train", "x", "x", verdict=verdict()),))
    world.settle()
    world.change("n7", pods=())
    world.hang(["n0", "n1"])
    world.run()
    assert set(world.cordoned()) == {"n7"} and world.state("n1") == "suspect" and world.state("n0") == "healthy"
