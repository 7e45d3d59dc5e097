"""The names that `lehr serve` exports follow the house's conventions, and each is fed."""

from __future__ import annotations

import re
from types import SimpleNamespace

from prometheus_client import generate_latest

from lehr.monitoring.metrics import SERVING_METRICS
from lehr.monitoring.metrics.metric import LABELS
from lehr.monitoring.metrics.serving import BETWEEN_SECONDS, SECONDS
from lehr.monitoring.serving.inference import serving_exposition
from lehr.runtime import counters
from lehr.serving import counts
from lehr.serving.listening import Connections


def test_names_follow_the_conventions_and_none_is_dead() -> None:
    counted = {count.name: count for count in counters.declared()}
    assert (counts.SECONDS, counts.BETWEEN_SECONDS) == (SECONDS, BETWEEN_SECONDS)
    for metric in SERVING_METRICS:
        assert re.fullmatch(r"lehr_serve_[a-z_]+", metric.name) and metric.help.endswith(".")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert set(metric.labels) <= LABELS.keys() and metric.series <= 100
        if metric.counted:
            assert counted[metric.counted].labels == metric.labels
            assert counted[metric.counted].bounds == metric.buckets
    of_server = [name for name, count in counted.items() if name.startswith("serve_")]
    assert sorted(of_server) == sorted(metric.counted for metric in SERVING_METRICS if metric.counted)


def test_gauges_are_those_of_the_moment() -> None:
    engine = SimpleNamespace(max_rows=8, max_waiting=64, running=0, waiting=0, cached_tokens=0, cache_bytes=4096)
    connections = Connections()
    exposition = serving_exposition(engine, connections)
    exposition.fresh_seconds = 0.0
    for running, waiting in ((1, 5), (2, 0)):
        engine.running, engine.waiting, engine.cached_tokens = running, waiting, 100 * running
        connections.take(object())
        text = exposition.render("")[1].decode()
        for line in (f"answers_running {running}.0", f"answers_waiting {waiting}.0", f"cached_tokens {running}00.0"):
            assert f"\nlehr_serve_{line}\n" in text
        assert f"\nlehr_serve_connections {running}.0\n" in text  # one more each time
    assert generate_latest(exposition._registry).count(b"# TYPE") == len(SERVING_METRICS)
