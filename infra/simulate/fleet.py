"""The simulated nodes and what surrounds them: their views, the controller's `decide` and actions, repairs, and people."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from lehr.infra.fleet.actions import Action, Cordon, DeletePod, FlagRepair, OpenBreaker, Release, StartRevalidation
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.effects import applied
from lehr.infra.fleet.fleet_view import FleetView, PoolView
from lehr.infra.fleet.policy import DAY, HOUR, NAMES
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import Condition, HumanAct, NodeState, NodeView, Outcome, PodView, Verdict
from lehr.infra.simulate.failures import FailureClass, FailureTable
from lehr.infra.simulate.scenario import Ledger, Regime, Scenario

POOL = "default"
PERSON = "a person"


@dataclass(frozen=True)
class Fault:
    """A lasting fault. Which tests can find it is drawn once, when it appears, so that repeating a test does not help."""

    name: str
    preflight: bool
    revalidation: bool


@dataclass
class Node:
    view: NodeView
    lemon: bool
    fault: Fault | None = None
    not_ready_until: float = 0.0
    cordoned_at: float | None = None
    wakes_at: float | None = None
    crashes: list[float] = field(default_factory=list)


class Fleet:
    """All nodes, and what happens to them outside the job. `advance` runs the event queue."""

    def __init__(self, scenario: Scenario, table: FailureTable, random: Random, ledger: Ledger) -> None:
        self.scenario, self.table, self.random, self.ledger = scenario, table, random, ledger
        self.assumed, self.policy = table.assumptions, scenario.policy
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.resets: dict[str, float] = {}
        self.touched: dict[str, Node] = {}  # nodes with a record, which a FleetView must include
        self.nodes = [self._new_node(i) for i in range(scenario.nodes + scenario.spares)]
        self.by_name = {node.view.name: node for node in self.nodes}
        self.racks = Counter(node.view.rack for node in self.nodes)
        self.evicted = False  # the controller deleted a pod of the job; the job clears this once it has taken other nodes

    def _new_node(self, number: int) -> Node:
        rack = f"r{number // self.assumed.rack_nodes}"
        return Node(NodeView(f"n{number}", POOL, rack), self.random.random() < self.assumed.lemon_fraction)

    # Time

    def at(self, when: float, call: Callable[[], None]) -> None:
        # The counter breaks ties in the order of scheduling: callables cannot be compared, and runs must be repeatable.
        heapq.heappush(self.queue, (max(when, self.now), next(self.order), call))

    def advance(self, until: float, *, stop_on_eviction: bool = False) -> None:
        """Run all events up to `until`, or, with `stop_on_eviction`, only until the controller deletes a pod of the job."""
        while not (self.evicted and stop_on_eviction) and self.queue and self.queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self.queue)
            call()
        if not (self.evicted and stop_on_eviction):
            self.now = max(self.now, until)

    # Scheduling

    def usable(self, node: Node) -> bool:
        return not node.view.unschedulable and node.not_ready_until <= self.now

    def suspect(self, node: Node) -> bool:
        return node.view.record is not None and node.view.record.state is NodeState.SUSPECT

    # Faults

    def break_node(self, node: Node, name: str, kind: FailureClass) -> None:
        """A fault of class `kind` has just crashed the job on `node`."""
        if node.fault is None and self.random.random() < kind.persistent:
            seen = self.random.random() < kind.preflight
            # Revalidation runs the preflight's tests and more, so it finds whatever the preflight finds.
            node.fault = Fault(name, seen, seen or self.random.random() < kind.revalidation)
        if self.scenario.regime is Regime.FULL and self.random.random() < kind.condition:
            condition = Condition(self.policy.hardware_conditions[0], name.title().replace(" ", ""), self.now)
            node.view = replace(node.view, conditions=(condition,))
            self.at(self.now + self.policy.condition_seconds, lambda: self.touch(node))
            self.at(self.now + HOUR, lambda: self._condition_clears(node, condition))

    def crashed(self, node: Node) -> None:
        """Count a crash that `node` caused. After enough of them, in every regime, a person notices and cordons the node."""
        node.crashes = [t for t in node.crashes if t > self.now - DAY] + [self.now]
        if len(node.crashes) == self.assumed.person_crashes:
            self.at(self.now + self.assumed.person_seconds, lambda: self._held_by_person(node))

    def _held_by_person(self, node: Node) -> None:
        if node.view.unschedulable:
            return
        node.view = replace(node.view, unschedulable=True, hold=HumanAct(PERSON, "keeps crashing", self.now))
        self.evicted = self.evicted or bool(node.view.pods)
        self._cordoned(node)
        self.at(self.now + self._repair_time(), lambda: self._returned_by_person(node))

    def outage(self, rack: str) -> None:
        for node in self.nodes:
            if node.view.rack == rack:
                node.not_ready_until = self.now + self.assumed.rack_outage_seconds

    # The job's side

    def occupy(self, node: Node) -> None:
        node.view = replace(
            node.view, pods=(PodView("train", f"job-{node.view.name}", f"job-{node.view.name}", at_gate=False),)
        )

    def vacate(self, node: Node) -> None:
        node.view = replace(node.view, pods=())
        if node.view.record is not None:
            self.touch(node)  # a node without a pod can be tested

    def blame(self, node: Node) -> None:
        """The rank on `node` ended with the exit code by which a trainer suspects its own node."""
        if self.scenario.regime is Regime.FULL:
            uid = f"job-{node.view.name}-{self.now}"
            ended = PodView("train", uid, uid, at_gate=False, exit_code=NAMES.exit_suspect, ended_at=self.now)
            node.view = replace(node.view, pods=(ended,))
            self.touch(node)
            self.occupy(node)

    def refuse(self, node: Node) -> bool:
        """Report a confirmed hardware failure in the preflight. Returns whether the controller cordoned the node."""
        verdict = Verdict(Outcome.HARDWARE_FAILURE, "1", "matmul", "MatmulMismatch", confirmed=True, finished_at=self.now)
        uid = f"{node.view.name}-{self.now}"
        node.view = replace(node.view, pods=(PodView("train", uid, uid, self.now, verdict),))
        self.touch(node)
        return node.view.unschedulable

    # The controller

    def touch(self, node: Node) -> None:
        """Apply `decide` to `node` until it returns no more actions."""
        if self.scenario.regime is Regime.RESTART_ONLY:
            return
        # Bounded: a rule that never came to rest must not hang the simulation.
        for _ in range(8):
            actions = decide(node.view, self._fleet_view(), self.policy, self.now)
            if self.scenario.regime is Regime.BEAKER and node.view.unschedulable:
                break  # after the cordon people repair and release the node
            for action in actions:
                node.view = applied(node.view, action, self.now)
                self._follow(node, action)
            if not actions:
                break
            self.touched[node.view.name] = node
        if self._unremarkable(node):
            self.touched.pop(node.view.name, None)
        self._wake(node)

    # A record without a cordon, a block or a recent quarantine affects no other decision; dropping it keeps FleetView small.
    def _unremarkable(self, node: Node) -> bool:
        record = node.view.record
        if record is None or record.cordon or record.blocked or record.dispositions:
            return False
        return all(event.at <= self.now - self.policy.breaker_window_seconds for event in record.quarantines)

    def _fleet_view(self) -> FleetView:
        view = fleet_view((n.view for n in self.touched.values()), self.policy, self.now, self.resets)
        cordoned = view.pools[POOL].cordoned if POOL in view.pools else 0
        return replace(view, pools={POOL: PoolView(len(self.nodes), cordoned)}, racks=self.racks)

    def _follow(self, node: Node, action: Action) -> None:
        """Schedule the consequences of an action of the controller: repairs, test results, resets of a breaker."""
        if isinstance(action, Cordon):
            self._cordoned(node)
            if self.scenario.regime is Regime.BEAKER:
                self.at(self.now + self._repair_time(), lambda: self._returned_by_person(node))
        elif isinstance(action, Release):
            self._back(node)
        elif isinstance(action, StartRevalidation):
            name = node.view.jobs[-1].name
            self.at(self.now + self.assumed.revalidation_seconds, lambda: self._job_ends(node, name))
        elif isinstance(action, FlagRepair):
            lemon = action.record.state is NodeState.LEMON
            self.ledger.lemons_found += lemon
            self.at(self.now + self._repair_time(), lambda: self._repaired(node, lemon))
        elif isinstance(action, OpenBreaker):
            self.ledger.refused += 1
            self.at(self.now + self.assumed.breaker_reset_seconds, lambda: self._reset(action.keys))
        elif isinstance(action, DeletePod) and action.event != "PreflightFailed":
            self.evicted = True

    def _wake(self, node: Node) -> None:
        """Some states change by time alone: schedule the next decision for when the record is due."""
        record = node.view.record
        due = None
        if record is not None and record.state in (NodeState.QUARANTINED, NodeState.SUSPECT):
            # 1 s later than suspect_seconds: decide compares strictly, so at the exact moment nothing would happen yet.
            quiet = self.policy.breaker_half_open_seconds if record.blocked else self.policy.suspect_seconds + 1.0
            later = [t for t in (record.next_attempt_at, self.now + quiet) if t > self.now]
            due = min(later)
        # Keep an earlier wake-up that is still to come: its `touch` schedules the next one.
        if due is None or (node.wakes_at is not None and self.now < node.wakes_at <= due):
            return
        node.wakes_at = due
        self.at(due, lambda: self.touch(node) if node.wakes_at == due else None)

    def _job_ends(self, node: Node, name: str) -> None:
        failed = node.fault is not None and node.fault.revalidation
        outcome = Outcome.HARDWARE_FAILURE if failed else Outcome.PASS
        verdict = Verdict(outcome, "1", "revalidation", "MatmulMismatch", confirmed=failed, finished_at=self.now)
        jobs = tuple(replace(j, finished_at=self.now, verdict=verdict) if j.name == name else j for j in node.view.jobs)
        node.view = replace(node.view, jobs=jobs)
        self.touch(node)

    def _condition_clears(self, node: Node, condition: Condition) -> None:
        if node.view.conditions == (condition,):
            node.view = replace(node.view, conditions=())

    def _reset(self, keys: tuple[str, ...]) -> None:
        """A person has handled the alert and resets the breakers, so that decisions on the waiting nodes continue."""
        self.resets.update(dict.fromkeys(keys, self.now))
        for node in list(self.touched.values()):
            if node.view.record is not None and node.view.record.blocked is not None:
                self.touch(node)

    # Cordons and repairs

    def _cordoned(self, node: Node) -> None:
        self.ledger.cordons += 1
        self.ledger.false_cordons += node.fault is None
        node.cordoned_at = self.now

    def _back(self, node: Node) -> None:
        if node.cordoned_at is not None:
            self.ledger.cordoned_node_hours += (self.now - node.cordoned_at) / HOUR
        node.cordoned_at = None

    def _repair_time(self) -> float:
        return self.random.expovariate(1.0 / (self.assumed.repair_hours * HOUR))

    def _mend(self, node: Node) -> None:
        if self.random.random() >= self.assumed.no_fault_found:
            node.fault = None
        node.crashes = []
        node.view = replace(node.view, conditions=())

    def _repaired(self, node: Node, lemon: bool) -> None:
        self._mend(node)
        if lemon:  # a person has read its history and replaced the whole node
            node.fault, node.lemon = None, False
        node.view = replace(node.view, repaired=HumanAct(PERSON, "repaired", self.now))
        self.touch(node)

    def _returned_by_person(self, node: Node) -> None:
        self._mend(node)
        act = HumanAct(PERSON, "repaired", self.now)
        if self.scenario.regime is Regime.FULL:
            node.view = replace(node.view, unschedulable=False, hold=None, override=act)
        else:
            node.view = replace(node.view, unschedulable=False, hold=None, record=None)
            self.touched.pop(node.view.name, None)
        self._back(node)
        self.touch(node)
