"""The names that `lehr serve` exports follow the house's conventions, and each is fed."""

from __future__ import annotations

import re

from prometheus_client import generate_latest

from lehr.monitoring.metrics import SERVING_METRICS
from lehr.monitoring.metrics.metric import LABELS
from lehr.monitoring.metrics.serving import SECONDS
from lehr.monitoring.serving.inference import serving_exposition
from lehr.runtime import counters
from lehr.serving import counts


def test_names_follow_the_conventions_and_none_is_dead() -> None:
    counted = {count.name: count for count in counters.declared()}
    assert counts.SECONDS == SECONDS
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
    now = [1, 5]
    exposition = serving_exposition(8, lambda: now[0], lambda: now[1])
    exposition.fresh_seconds = 0.0
    for running, waiting in ((1, 5), (2, 0)):
        now[:] = running, waiting
        text = exposition.render("")[1].decode()
        assert f"lehr_serve_answers_running {running}.0" in text and f"lehr_serve_answers_waiting {waiting}.0" in text
    assert generate_latest(exposition._registry).count(b"# TYPE") == len(SERVING_METRICS)
