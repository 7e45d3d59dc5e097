"""The controller's metrics, declared in lehr.monitoring.metrics: in a registry of their own, with their own HTTP server."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lehr.infra.fleet.breaker import BreakerStatus
from lehr.infra.fleet.views import NodeState, NodeView
from lehr.monitoring.metrics import FLEET_METRICS, Fleet, Metric
from lehr.monitoring.metrics.fleet import RUNS_SHOWN
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.serving.exposition import Exposition, handler
from lehr.monitoring.serving.server import Server

OF_NODES = (Fleet.NODES, Fleet.NODE_STATE, Fleet.NODE_SINCE, Fleet.SPARES, Fleet.BREAKER_OPEN, Fleet.BREAKER_BUDGET)
OF_RUNS = (Fleet.RUN_PODS, Fleet.RUN_PREFLIGHT)


@dataclass
class Run:
    """What is known of one run's pods."""

    pods: int = 0
    serving: int = 0
    preflight_seconds: float = 0.0


def _is_free(node: NodeView) -> bool:
    held = any(pod.gpus and not pod.ended for pod in node.pods)
    return node.ready and not node.unschedulable and not held


class ControllerMetrics:
    """Counters and gauges by name. Thread-safe."""

    def __init__(self) -> None:
        self._registry = Registry(FLEET_METRICS)
        self.registry = self._registry.prometheus
        self._server: Server | None = None

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        self._registry.of(metric, **labels).inc(amount)

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        self._registry.of(metric, **labels).set(value)

    def observe(self, metric: Metric, seconds: float, /, **labels: str) -> None:
        self._registry.of(metric, **labels).observe(max(0.0, seconds))

    def error(self, reason: str) -> None:
        self.count(Fleet.ERRORS, reason=reason)

    def request(self, method: str, path: str, status: int) -> None:
        """Count one API request. The label is the resource, never an object's name, which would make a series of each
        object."""
        parts = path.split("/")
        named = parts[1:3] == ["api", "v1"]
        rest = parts[3:] if named else parts[4:]
        rest = rest[2:] if rest[:1] == ["namespaces"] and len(rest) > 2 else rest
        resource = "/".join([rest[0], *rest[2:3]]) if rest else "discovery"
        self.count(Fleet.API_REQUESTS, verb=method, resource=resource, code=str(status))

    def show(self, nodes: Iterable[NodeView], breakers: Iterable[BreakerStatus], now: float) -> None:
        """Set the gauges that describe the whole fleet. Only nodes that are not healthy have a series of their own."""
        tally: Tally[tuple[str, str]] = Tally()
        spares: dict[str, int] = {}
        self._clear(OF_NODES)
        for node in nodes:
            state = node.record.state if node.record is not None else NodeState.HEALTHY
            held = node.unschedulable and (node.record is None or node.record.cordon is None)
            shown = "held" if held else state.value
            tally[(node.pool, shown)] += 1
            spares.setdefault(node.pool, 0)
            spares[node.pool] += shown == NodeState.HEALTHY.value and _is_free(node)
            if shown != NodeState.HEALTHY.value:
                self.set(Fleet.NODE_STATE, 1, node=node.name, state=shown)
            if node.record is not None and shown == state.value != NodeState.HEALTHY.value:
                self.set(Fleet.NODE_SINCE, node.record.since, node=node.name, state=shown)
        for (pool, state_name), number in tally.items():
            self.set(Fleet.NODES, number, pool=pool, state=state_name)
        for pool, number in spares.items():
            self.set(Fleet.SPARES, number, pool=pool)
        for breaker in breakers:
            self.set(Fleet.BREAKER_OPEN, float(breaker.open), breaker=breaker.key)
            self.set(Fleet.BREAKER_BUDGET, breaker.budget, breaker=breaker.key)
        self.set(Fleet.RECONCILE_TIME, now)

    def show_runs(self, runs: Mapping[str, Run]) -> None:
        """Set the gauges of the runs that have pods; of at most RUNS_SHOWN, those with the most pods."""
        self._clear(OF_RUNS)
        for name, run in sorted(runs.items(), key=lambda item: (-item[1].pods, item[0]))[:RUNS_SHOWN]:
            self.set(Fleet.RUN_PODS, run.serving, run=name)
            self.set(Fleet.RUN_PREFLIGHT, run.preflight_seconds, run=name)

    def hide(self) -> None:
        """Another replica leads now and shows the fleet: what this one last saw would stand beside it."""
        self._clear(OF_NODES + OF_RUNS)

    def _clear(self, metrics: Iterable[Metric]) -> None:
        for metric in metrics:
            self._registry.clear(metric)

    def serve(self, address: str, port: int) -> int:
        """Serve /metrics on `address`; returns the port. Raises OSError if the port is in use."""
        exposition = Exposition(self.registry, lambda: None)
        exposition.fresh_seconds = 0.0  # few series, and `helm test` asks again at once
        self._server = Server((address, port), handler(exposition, lambda: (200, {"status": "ok"})))
        self._server.start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            # On a thread of its own: shutdown() blocks until the serving thread has finished its request.
            threading.Thread(target=self._server.shutdown, daemon=True).start()
            self._server.server_close()
