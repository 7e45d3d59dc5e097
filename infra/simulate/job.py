"""The training job: takes nodes, passes their preflight, starts, trains, crashes, and starts again."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.fleet import Fleet, Node
from lehr.infra.simulate.scenario import Ledger, Regime, Scenario


def simulate(scenario: Scenario, table: FailureTable, seed: int) -> Ledger:
    """One run of `scenario.days`. The same seed gives the same ledger."""
    if scenario.regime is Regime.BEAKER:  # as published: the number of nodes that may be cordoned is not limited
        loose = scenario.policy.model_copy(update={"breaker_minimum": 10**6, "max_cordoned_fraction": 1.0})
        scenario = replace(scenario, policy=loose)
    return _Job(scenario, table, Random(seed)).run()


class _Job:
    def __init__(self, scenario: Scenario, table: FailureTable, random: Random) -> None:
        self.scenario, self.table, self.random = scenario, table, random
        self.ledger = Ledger()
        self.fleet = Fleet(scenario, table, random, self.ledger)
        self.horizon = scenario.days * 86400.0
        self.members: dict[str, Node] = {}
        self.kinds = list(table.classes)
        self.counts = [table.classes[kind].count for kind in self.kinds]
        assumed = table.assumptions
        # The table's rate is an average over all nodes: lemons have a larger part of it and do not raise it.
        self.rate = table.per_node_second / (1.0 + assumed.lemon_fraction * (assumed.lemon_factor - 1.0))

    def run(self) -> Ledger:
        while self.fleet.now < self.horizon:
            self._start()
            self._train()
        for node in self.fleet.nodes:
            if node.cordoned_at is not None:
                self.ledger.cordoned_node_hours += (self.horizon - node.cordoned_at) / 3600.0
        return self.ledger

    def _spend(self, category: str, seconds: float, *, stop_on_eviction: bool = False) -> None:
        before = self.fleet.now
        self.fleet.advance(min(before + seconds, self.horizon), stop_on_eviction=stop_on_eviction)
        setattr(self.ledger, category, getattr(self.ledger, category) + self.fleet.now - before)

    # Nodes

    def _take_nodes(self) -> list[Node]:
        """Fill the job with usable nodes, suspects last; wait while there are too few. Returns the newly taken nodes."""
        fleet, members = self.fleet, self.members
        while fleet.now < self.horizon:
            for name in [n for n, node in members.items() if not fleet.usable(node)]:
                fleet.vacate(members.pop(name))
            spare = [n for n in fleet.nodes if n.view.name not in members and fleet.usable(n)]
            spare.sort(key=lambda n: (fleet.suspect(n), bool(n.view.jobs)))
            fresh = [n for n in spare if not fleet.suspect(n)]
            # A suspect member is replaced only if enough nodes that are not suspects remain.
            for name in [n for n, node in members.items() if fleet.suspect(node)]:
                if len(fresh) + len(members) > self.scenario.nodes:
                    fleet.vacate(members.pop(name))
            taken = spare[: self.scenario.nodes - len(members)]
            if len(members) + len(taken) == self.scenario.nodes:
                for node in taken:
                    fleet.occupy(node)
                    members[node.view.name] = node
                fleet.evicted = False
                return taken
            self._spend("waiting", self._until_something_happens())
        return []

    def _until_something_happens(self) -> float:
        fleet = self.fleet
        times = [n.not_ready_until for n in fleet.nodes if n.not_ready_until > fleet.now]
        times += [fleet.queue[0][0]] if fleet.queue else []
        # At least a millisecond: an event at this very moment must not make an endless loop of waits of length zero.
        return max(min(times, default=self.horizon) - fleet.now, 1e-3)

    # Start

    def _start(self) -> None:
        self._take_nodes()
        checked = list(self.members.values())
        while self.fleet.now < self.horizon:
            self._preflight(checked)
            self._spend("startup", self.scenario.startup_seconds, stop_on_eviction=True)
            if not self.fleet.evicted:
                return
            checked = self._take_nodes()

    def _preflight(self, nodes: list[Node]) -> None:
        """Run the preflight until all nodes have passed; replacements are checked while the others wait."""
        while nodes and self.scenario.preflight and self.fleet.now < self.horizon:
            self._spend("preflight", self.scenario.preflight)
            failed = [n for n in nodes if n.fault is not None and n.fault.preflight] + self._false_failures(nodes)
            cordoned = [self.fleet.refuse(node) for node in failed]
            for node, gone in zip(failed, cordoned, strict=True):
                self.fleet.vacate(self.members.pop(node.view.name))
                if not gone:  # the node may get the pod again; a person counts that like any other crash
                    self.fleet.crashed(node)
            if not all(cordoned):  # the controller does not delete the pod: the gate gives up after its own timeout
                self._spend("preflight", self.scenario.policy.gate_seconds)
            nodes = self._take_nodes() if failed else []

    def _false_failures(self, nodes: list[Node]) -> list[Node]:
        chance = self.table.assumptions.false_failure
        if chance > 1e-3:  # frequent enough that several nodes may fail at once: draw for each
            return [n for n in nodes if not (n.fault and n.fault.preflight) and self.random.random() < chance]
        # Rare: one draw for "at least one of them" instead of thousands, and then at most one node fails.
        if not chance or self.random.random() >= 1.0 - (1.0 - chance) ** len(nodes):
            return []
        node = self.random.choice(nodes)
        return [] if node.fault is not None and node.fault.preflight else [node]

    # Training

    def _train(self) -> None:
        fleet, assumed = self.fleet, self.table.assumptions
        began = fleet.now
        broken = [n for n in self.members.values() if n.fault is not None]
        weight = sum(assumed.lemon_factor if n.lemon else 1.0 for n in self.members.values())
        # New faults and repeated crashes of faulty nodes are independent Poisson processes; the first event of both ends the
        # run.
        fresh, again = self.rate * weight, len(broken) / assumed.recrash_seconds
        fails_at = began + self.random.expovariate(fresh + again) if self.members else self.horizon
        fleet.advance(min(fails_at, self.horizon), stop_on_eviction=True)
        ended = fleet.now >= self.horizon
        self._count(fleet.now - began, ended=ended)
        if ended or fleet.evicted:
            return
        self.ledger.crashes += 1
        if self.random.random() < again / (fresh + again):
            self._crash(self.random.choice(broken), "")
        else:
            self._crash(self._victim(weight), self.random.choices(self.kinds, self.counts)[0])

    def _victim(self, weight: float) -> Node:
        left = self.random.random() * weight
        for node in self.members.values():
            left -= self.table.assumptions.lemon_factor if node.lemon else 1.0
            if left <= 0:
                break
        return node

    def _crash(self, node: Node, name: str) -> None:
        """`name` is the class of a new fault, or empty if the fault that `node` already has crashes it again."""
        again = not name and node.fault is not None
        kind = self.table.classes[node.fault.name if again and node.fault else name]
        if kind.node and not again:
            if self.random.random() < kind.rack:
                self.fleet.outage(node.view.rack)
            else:
                self.fleet.break_node(node, name, kind)
        # A quiet failure shows only as a hang, until a time-out ends it.
        if self.random.random() < kind.quiet:
            self._spend("hanging", self.scenario.hang)
        if kind.node:
            if self.random.random() < kind.trainer:
                self.fleet.blame(node)
            self.fleet.crashed(node)

    def _count(self, seconds: float, *, ended: bool) -> None:
        """Split a period of training into kept work, checkpoints, and work after the last checkpoint, which is lost."""
        interval, pause = self.scenario.checkpoint_interval, self.scenario.checkpoint_seconds
        # A crash keeps whole intervals only; the end of the simulation loses nothing, so it keeps fractions too.
        kept = seconds / (interval + pause) if ended else math.floor(seconds / (interval + pause))
        self.ledger.productive += kept * interval
        self.ledger.checkpoint += kept * pause
        self.ledger.rework += seconds - kept * (interval + pause)
