"""The controller's metrics, declared in lehr.monitoring.metrics: in a registry of their own, with their own HTTP server."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Iterable

from lehr.infra.fleet.breaker import BreakerStatus
from lehr.infra.fleet.views import NodeState, NodeView
from lehr.monitoring.metrics import FLEET_METRICS, Fleet, Metric
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.serving.exposition import Exposition, handler
from lehr.monitoring.serving.server import Server


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
        self._registry.clear(Fleet.NODE_STATE)
        for node in nodes:
            state = node.record.state if node.record is not None else NodeState.HEALTHY
            held = node.unschedulable and (node.record is None or node.record.cordon is None)
            shown = "held" if held else state.value
            tally[(node.pool, shown)] += 1
            if shown != NodeState.HEALTHY.value:
                self.set(Fleet.NODE_STATE, 1, node=node.name, state=shown)
        self._registry.clear(Fleet.NODES)
        for (pool, state_name), number in tally.items():
            self.set(Fleet.NODES, number, pool=pool, state=state_name)
        for metric in (Fleet.BREAKER_OPEN, Fleet.BREAKER_BUDGET):
            self._registry.clear(metric)
        for breaker in breakers:
            self.set(Fleet.BREAKER_OPEN, float(breaker.open), breaker=breaker.key)
            self.set(Fleet.BREAKER_BUDGET, breaker.budget, breaker=breaker.key)
        self.set(Fleet.RECONCILE_TIME, now)

    def serve(self, address: str, port: int) -> int:
        """Serve /metrics on `address`; returns the port. Raises OSError if the port is in use."""
        exposition = Exposition(self.registry, lambda: None)
        exposition.fresh_seconds = 0.0  # few series, and `helm test` asks again at once
        self._server = Server((address, port), handler(exposition, lambda: (200, {"status": "ok"})))
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            # On a thread of its own: shutdown() blocks until the serving thread has finished its request.
            threading.Thread(target=self._server.shutdown, daemon=True).start()
            self._server.server_close()
