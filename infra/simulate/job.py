"""The training job: takes nodes, passes their preflight, starts, trains, crashes, and starts again."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        self.unstored = 0.0  # seconds of kept work that only memory copies hold
        self.kinds = list(table.classes)
        self.counts = [table.classes[kind].count for kind in self.kinds]
        assumed = table.assumptions
        # The table's rate is an average over all nodes: lemons have a larger part of it and do not raise it.
        self.rate = table.per_node_second / (1.0 + assumed.lemon_fraction * (assumed.lemon_factor - 1.0))

    def run(self) -> Ledger:
        self._start(in_place=False)
        while self.fleet.now < self.horizon:
            left = self._train()
            self._start(in_place=self.scenario.restart_in_place and left)
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
            spare = self._spares()
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

    def _spares(self) -> list[Node]:
        """Usable nodes outside the job, suspects last. On hot ones a preflight has run: what it sees is cordoned already."""
        fleet = self.fleet
        idle = [n for n in fleet.nodes if n.view.name not in self.members and fleet.usable(n)]
        if self.scenario.hot_spares and self.scenario.preflight:
            for node in [n for n in idle if n.fault is not None and n.fault.preflight and not fleet.suspect(n)]:
                fleet.refuse(node)
                fleet.vacate(node)
            idle = [n for n in idle if fleet.usable(n)]
        return sorted(idle, key=lambda n: (fleet.suspect(n), bool(n.view.jobs)))

    def _until_something_happens(self) -> float:
        fleet = self.fleet
        times = [n.not_ready_until for n in fleet.nodes if n.not_ready_until > fleet.now]
        times += [fleet.queue[0][0]] if fleet.queue else []
        # At least a millisecond: an event at this very moment must not make an endless loop of waits of length zero.
        return max(min(times, default=self.horizon) - fleet.now, 1e-3)

    # Start

    def _start(self, *, in_place: bool) -> None:
        """Until ranks run on all nodes. `in_place`: pods that are left stay; new ones start, or are hot spares and run already.
        A start of ranks is preceded by the preflight either way."""
        if in_place:
            self._spend("scheduling", self.scenario.meeting_seconds)
        taken = self._take_nodes()
        checked = list(self.members.values())
        while self.fleet.now < self.horizon:
            cold = not in_place or self._cold(taken)
            if cold:
                self._spend("scheduling", self.scenario.pods_seconds, stop_on_eviction=True)
            cold = self._preflight(checked) or cold
            launch = self.scenario.launch_seconds if cold else self.scenario.in_place_seconds
            self._spend("startup", launch, stop_on_eviction=True)
            self._spend("load", self.scenario.load(in_place), stop_on_eviction=True)
            if not self.fleet.evicted:
                return
            checked = taken = self._take_nodes()

    def _cold(self, taken: Sequence[Node]) -> bool:
        """Whether pods must start on these nodes, which have just joined."""
        return bool(taken) and not self.scenario.joins_hot

    def _preflight(self, nodes: Sequence[Node]) -> bool:
        """Run the preflight until all nodes have passed; replacements are checked while the others wait, hot ones were before.
        Returns whether pods had to start on replacements."""
        cold = False
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
            taken = self._take_nodes() if failed else []
            cold = cold or self._cold(taken)
            nodes = [] if self.scenario.joins_hot else taken
        return cold

    def _false_failures(self, nodes: Sequence[Node]) -> list[Node]:
        chance = self.table.assumptions.false_failure
        if chance > 1e-3:  # frequent enough that several nodes may fail at once: draw for each
            return [n for n in nodes if not (n.fault and n.fault.preflight) and self.random.random() < chance]
        # Rare: one draw for "at least one of them" instead of thousands, and then at most one node fails.
        if not chance or self.random.random() >= 1.0 - (1.0 - chance) ** len(nodes):
            return []
        node = self.random.choice(nodes)
        return [] if node.fault is not None and node.fault.preflight else [node]

    # Training

    def _train(self) -> bool:
        """Train until something happens. Returns whether the pods that are left can go on: not where one can't be replaced."""
        fleet, assumed = self.fleet, self.table.assumptions
        began = fleet.now
        broken = [n for n in self.members.values() if n.fault is not None]
        weight = sum(assumed.lemon_factor if n.lemon else 1.0 for n in self.members.values())
        # New faults and repeated crashes of faulty nodes are independent Poisson processes; the first event of both ends the
        # run.
        fresh, again = self.rate * weight, len(broken) / assumed.recrash_seconds
        fails_at = began + self.random.expovariate(fresh + again) if self.members else self.horizon
        fleet.advance(min(fails_at, self.horizon), stop_on_eviction=True)
        seconds = fleet.now - began
        if fleet.now >= self.horizon:
            self._finish(seconds)
        elif fleet.evicted:
            self._count(seconds)
        else:
            return self._interrupted(seconds, broken, fresh, again, weight)
        return True

    def _interrupted(self, seconds: float, broken: list[Node], fresh: float, again: float, weight: float) -> bool:
        """A crash after `seconds` of training: of a faulty node with rate `again`, or with rate `fresh` a new fault."""
        self.ledger.crashes += 1
        if self.random.random() < again / (fresh + again):
            left = self._crash(self.random.choice(broken), "")
        else:
            left = self._crash(self._victim(weight), self.random.choices(self.kinds, self.counts)[0])
        if not left and self.scenario.restart_in_place:
            self._spend("scheduling", self.scenario.vain_seconds)
        self._count(seconds, copies_lost=not left)
        return left

    def _victim(self, weight: float) -> Node:
        left = self.random.random() * weight
        for node in self.members.values():
            left -= self.table.assumptions.lemon_factor if node.lemon else 1.0
            if left <= 0:
                break
        return node

    def _crash(self, node: Node, name: str) -> bool:
        """`name` is the class of a new fault, or empty if the fault that `node` already has crashes it again. Returns whether
        lost pods can be replaced while the others wait: not on a node that vanished, or in a rack that is gone."""
        again = not name and node.fault is not None
        kind = self.table.classes[node.fault.name if again and node.fault else name]
        whole_rack = kind.node and not again and self.random.random() < kind.rack
        if whole_rack:
            self.fleet.outage(node.view.rack)
        elif kind.node and not again:
            self.fleet.break_node(node, name, kind)
        # A quiet failure shows only as a hang, until a time-out ends it.
        quiet = self.random.random() < kind.quiet
        self._spend("detection", self.scenario.crash_seconds + (self.scenario.hang if quiet else 0.0))
        if kind.node:
            if self.random.random() < kind.trainer:
                self.fleet.blame(node)
            self.fleet.crashed(node)
        return not whole_rack and not (quiet and kind.vanishes)

    def _finish(self, seconds: float) -> None:
        """The end of the simulation loses nothing, so it keeps fractions of an interval too."""
        saves = self.scenario.saves
        share = saves.interval / (saves.interval + saves.pause)
        self.ledger.productive += seconds * share
        self.ledger.checkpoint += seconds * (1.0 - share)

    def _count(self, seconds: float, *, copies_lost: bool = False) -> None:
        """Split a period of training that a crash ended into kept work, pauses, and work since the last save, which is lost."""
        saves = self.scenario.saves
        kept = saves.kept(seconds)
        work, pauses = kept * saves.interval, kept * saves.pause
        lost = self._only_in_memory(work, copies_lost) if self.scenario.copies_last else 0.0
        self.ledger.productive += work - lost
        self.ledger.checkpoint += pauses
        self.ledger.rework += seconds - work - pauses + lost

    def _only_in_memory(self, work: float, copies_lost: bool) -> float:
        """The seconds of work that are lost with the memory copies, of this start and of earlier ones: where all pods are made
        anew all go back to the store's."""
        held = self.unstored + work
        interval = self.scenario.checkpoint_interval
        stored = max(0.0, math.floor((held - self.scenario.upload_seconds) / interval) * interval)
        self.unstored = 0.0 if copies_lost else held - stored
        return held - stored if copies_lost else 0.0
