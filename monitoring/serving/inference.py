"""The metrics of a server of a model: its own counts, and at each scrape what is running and waiting."""

from __future__ import annotations

from collections.abc import Callable

from lehr.monitoring.metrics import serving as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.serving.exposition import Exposition


def serving_exposition(rows: int, running: Callable[[], int], waiting: Callable[[], int]) -> Exposition:
    """What /metrics answers, for an engine of `rows` rows."""
    registry = Registry(m.SERVING_METRICS)

    def look() -> None:
        registry.of(m.RUNNING).set(running())
        registry.of(m.WAITING).set(waiting())
        registry.of(m.ROWS).set(rows)

    return Exposition(registry.prometheus, look)
