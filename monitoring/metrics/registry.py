"""Prometheus' collectors for a list of metrics, which of their series exist, and the library's own counts beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from lehr.monitoring.metrics import Metric
from lehr.runtime import counters

# They double the series of every counter and histogram, and nothing reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Registry:
    """The collectors of `metrics`. `always` are labels that every series has, with their values."""

    def __init__(self, metrics: Iterable[Metric], always: Mapping[str, str] | None = None) -> None:
        self.prometheus, self._always = CollectorRegistry(), dict(always or {})
        self._made: dict[str, Any] = {}
        self._series: dict[Metric, set[tuple[str, ...]]] = {}
        self._lock = threading.Lock()  # scrapers drop series while training makes new ones
        counted = [metric for metric in metrics if metric.counted]
        for metric in metrics:
            if not metric.counted:
                self._made[metric.name] = _collector(metric, self.prometheus)
        if counted:
            self.prometheus.register(Counted(counted, self._always))

    def of(self, metric: Metric, /, **labels: str) -> Any:
        """The collector of one series, which exists from now on."""
        made = self._made[metric.name]
        if not metric.labels:
            return made
        values = tuple({**self._always, **labels}[name] for name in metric.labels)
        with self._lock:
            if metric.kind == "gauge":
                self._series.setdefault(metric, set()).add(values)
            return made.labels(*values)

    def has(self, metric: Metric) -> bool:
        """Whether it is one of those that this registry was made for."""
        return metric.name in self._made

    def drop(self, **labels: str) -> None:
        """Remove the gauges with these labels that say nothing once what they describe is over."""
        with self._lock:
            for metric, series in self._series.items():
                if metric.lasts or not labels.keys() <= set(metric.labels):
                    continue
                places = {metric.labels.index(name): value for name, value in labels.items()}
                for values in [found for found in series if all(found[at] == value for at, value in places.items())]:
                    self._made[metric.name].remove(*values)
                    series.discard(values)

    def clear(self, metric: Metric) -> None:
        """Remove all series of `metric`."""
        with self._lock:
            self._made[metric.name].clear()
            self._series.pop(metric, None)


def _collector(metric: Metric, registry: CollectorRegistry) -> Any:
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, metric.help, metric.labels, registry=registry)


class Counted(Collector):
    """The library's counts (`lehr.runtime.counters`) of this machine's processes, read at each scrape."""

    def __init__(self, metrics: Iterable[Metric], always: Mapping[str, str]) -> None:
        self._metrics, self._always = list(metrics), dict(always)

    def describe(self) -> list[Family]:
        return []  # nothing is read at registration

    def collect(self) -> Iterator[Family]:
        found = counters.read_all()
        names = {count.name: count.labels for count in counters.declared()}
        for metric in self._metrics:
            own = names.get(metric.counted, ())
            rows = [(dict(zip(own, key, strict=False)), seen) for key, seen in found.get(metric.counted, {}).items()]
            if metric.kind == "counter":
                yield self._counter(metric, rows)
            else:
                yield self._histogram(metric, rows)

    def _values(self, metric: Metric, labels: Mapping[str, str]) -> list[str]:
        return [str({**self._always, **labels}.get(name, "")) for name in metric.labels]

    def _counter(self, metric: Metric, rows: list[tuple[dict[str, str], counters.Observed]]) -> Family:
        family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
        for labels, seen in rows:
            family.add_metric(self._values(metric, labels), seen.total)
        return family

    def _histogram(self, metric: Metric, rows: list[tuple[dict[str, str], counters.Observed]]) -> Family:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(str, metric.buckets), "+Inf"]
        for labels, seen in rows:
            below, buckets = 0.0, []
            for bound, count in zip(bounds, seen.buckets, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(self._values(metric, labels), buckets, seen.total)
        return family
