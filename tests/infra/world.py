"""Short builders of views, and a world that carries actions out, for the tests of the decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lehr.infra.fleet.actions import Action, writes_node
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.effects import applied
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.summary import fleet_after, fleet_view
from lehr.infra.fleet.views import JobView, NodeView, Outcome, PodView, Verdict

NOW = 1_000_000.0
POLICY = Policy()


def verdict(outcome: Outcome = Outcome.HARDWARE_FAILURE, at: float = NOW, **changes: Any) -> Verdict:
    bad = outcome is not Outcome.PASS
    base = Verdict(outcome, "1", "matmul" if bad else "", "MatmulMismatch" if bad else "", confirmed=bad, finished_at=at)
    return replace(base, **changes)


def pod(uid: str = "p1", found: Verdict | None = None, **changes: Any) -> PodView:
    return replace(PodView("train", f"pod-{uid}", uid, verdict=found), **changes)


class World:
    """Nodes and a clock. `step` decides for every node once and carries the actions out, as the controller does."""

    def __init__(self, *nodes: NodeView, policy: Policy = POLICY, now: float = NOW) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.policy, self.now = policy, now
        self.resets: dict[str, float] = {}
        self.log: list[tuple[float, Action]] = []

    def step(self) -> list[Action]:
        fleet = fleet_view(self.nodes.values(), self.policy, self.now, self.resets)
        done: list[Action] = []
        for name in list(self.nodes):
            actions = decide(self.nodes[name], fleet, self.policy, self.now)
            assert sum(map(writes_node, actions)) <= 1
            fleet = fleet_after(fleet, self.nodes[name], actions)
            for action in actions:
                self.nodes[name] = applied(self.nodes[name], action, self.now)
            done += actions
        self.log += [(self.now, action) for action in done]
        return done

    def settle(self) -> list[Action]:
        """Steps until nothing more is asked for at this time."""
        done: list[Action] = []
        for _ in range(8):
            found = self.step()
            if not found:
                return done
            done += found
        raise AssertionError(f"never at rest: {found}")

    def change(self, name: str, **changes: Any) -> None:
        self.nodes[name] = replace(self.nodes[name], **changes)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def finish_jobs(self, outcome: Outcome | None) -> int:
        """End every running Job with this outcome (None: it dies without a verdict). Returns how many."""
        count = 0
        for name, node in self.nodes.items():
            jobs = tuple(self._finished(job, outcome) for job in node.jobs)
            count += sum(a != b for a, b in zip(jobs, node.jobs, strict=True))
            self.change(name, jobs=jobs)
        return count

    def _finished(self, job: JobView, outcome: Outcome | None) -> JobView:
        if job.finished_at is not None:
            return job
        return replace(job, finished_at=self.now, verdict=verdict(outcome, self.now) if outcome else None)

    def kinds(self) -> list[str]:
        return [action.kind for _, action in self.log]

    def state(self, name: str = "n1") -> str:
        record = self.nodes[name].record
        return str(record.state) if record else "none"
