"""The metrics of a server of a model: its own counts, and at each scrape what is running and waiting."""

from __future__ import annotations

import time
from typing import Protocol

from lehr.monitoring.metrics import serving as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.serving.exposition import Exposition


class Decoding(Protocol):
    """What answers requests (lehr.serving.engine): how much it does now, and how much it could."""

    max_rows: int
    max_waiting: int

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...

    @property
    def cache_bytes(self) -> int: ...


class Connected(Protocol):
    """The connections that are open, and how many may be."""

    limit: int

    def __len__(self) -> int: ...


def serving_exposition(engine: Decoding, connections: Connected) -> Exposition:
    """What /metrics answers, for a server that begins now."""
    registry = Registry(m.SERVING_METRICS)
    registry.of(m.STARTED).set(time.time())

    def look() -> None:
        registry.of(m.RUNNING).set(engine.running)
        registry.of(m.ROWS).set(engine.max_rows)
        registry.of(m.WAITING).set(engine.waiting)
        registry.of(m.WAITING_LIMIT).set(engine.max_waiting)
        registry.of(m.CONNECTIONS).set(len(connections))
        registry.of(m.CONNECTIONS_LIMIT).set(connections.limit)
        registry.of(m.CACHED_TOKENS).set(engine.cached_tokens)
        registry.of(m.CACHE).set(engine.cache_bytes)

    return Exposition(registry.prometheus, look)
