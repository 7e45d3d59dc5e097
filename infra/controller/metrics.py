"""The controller's metrics, declared in lehr.monitoring.metrics: in a registry of their own, with their own HTTP server."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Iterable
from http.server import HTTPServer
from typing import Any

from lehr.infra.fleet.breaker import BreakerStatus
from lehr.infra.fleet.views import NodeState, NodeView
from lehr.monitoring.metrics import FLEET_METRICS, Fleet, Metric


class ControllerMetrics:
    """Counters and gauges by name. Thread-safe."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        for metric in FLEET_METRICS:
            if metric.kind == "histogram":
                made: Any = Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets)
            else:
                kind = Counter if metric.kind == "counter" else Gauge
                made = kind(metric.name, metric.help, metric.labels, registry=self.registry)
            self._made[metric.name] = made
        self._server: HTTPServer | None = None

    def count(self, metric: Metric, amount: float = 1.0, /, **labels: str) -> None:
        self._of(metric, labels).inc(amount)

    def set(self, metric: Metric, value: float, /, **labels: str) -> None:
        self._of(metric, labels).set(value)

    def observe(self, metric: Metric, seconds: float, /, **labels: str) -> None:
        self._of(metric, labels).observe(max(0.0, seconds))

    def _of(self, metric: Metric, labels: dict[str, str]) -> Any:
        made = self._made[metric.name]
        return made.labels(**labels) if labels else made

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
        states = self._made[Fleet.NODE_STATE.name]
        states.clear()
        for node in nodes:
            state = node.record.state if node.record is not None else NodeState.HEALTHY
            held = node.unschedulable and (node.record is None or node.record.cordon is None)
            shown = "held" if held else state.value
            tally[(node.pool, shown)] += 1
            if shown != NodeState.HEALTHY.value:
                states.labels(node=node.name, state=shown).set(1)
        self._made[Fleet.NODES.name].clear()
        for (pool, state_name), number in tally.items():
            self.set(Fleet.NODES, number, pool=pool, state=state_name)
        for metric in (Fleet.BREAKER_OPEN, Fleet.BREAKER_BUDGET):
            self._made[metric.name].clear()
        for breaker in breakers:
            self.set(Fleet.BREAKER_OPEN, float(breaker.open), breaker=breaker.key)
            self.set(Fleet.BREAKER_BUDGET, breaker.budget, breaker=breaker.key)
        self.set(Fleet.RECONCILE_TIME, now)

    def serve(self, address: str, port: int) -> int:
        """Serve /metrics on `address`; returns the port. Raises OSError if the port is in use."""
        from prometheus_client import start_http_server

        server, _ = start_http_server(port, addr=address, registry=self.registry)
        self._server = server
        return int(server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            # On a thread of its own: shutdown() blocks until the serving thread has finished its request.
            threading.Thread(target=self._server.shutdown, daemon=True).start()
            self._server.server_close()
