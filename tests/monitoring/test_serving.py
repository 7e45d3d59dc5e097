"""Scrapers: they fetch what is true, and none of them costs the run anything."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from lehr.monitoring import metrics as m
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.pod_exporter import Pod, PodExporter
from lehr.runtime import counters
from tests.monitoring.exported import STEP, OneGpu, Time, get, samples


def test_a_scraper_that_hangs_up_is_nobodys_news(tracker: PrometheusTracker, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = tracker.start().split("/")[2].split(":")
    for request in (b"GET /metrics HTTP/1.0\r\n\r\n", b"GET /met"):
        for _ in range(20):
            client = socket.create_connection((host, int(port)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing it is a reset
            client.sendall(request)
            client.close()
    assert get(f"http://{host}:{port}/health")[0] == 200
    _wait_for_threads()
    assert capfd.readouterr() == ("", "")


def test_half_requests_are_few_and_time_out(tracker: PrometheusTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.monitoring.serving.server.PATIENCE_SECONDS", 1.0)
    host, port = tracker.start().split("/")[2].split(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(200)]
    for client in clients:
        with contextlib.suppress(OSError):  # hung up on
            client.sendall(b"GET /metr")
    try:
        deadline = time.monotonic() + 3
        while threading.active_count() < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(_threads()) <= 32
        _wait_for_threads()  # though no client has left
        assert get(f"http://{host}:{port}/metrics")[0] == 200
    finally:
        for client in clients:
            client.close()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]


def _wait_for_threads() -> None:
    deadline = time.monotonic() + 20
    while _threads():
        assert time.monotonic() < deadline, "threads of clients that ask nothing stay"
        time.sleep(0.05)


def test_a_stage_that_ended_leaves_no_gauge_that_says_it_goes_on(tracker: PrometheusTracker) -> None:
    now, url = tracker._now, tracker.start(0)
    assert isinstance(now, Time)
    tracker.stage_started("stage1", total_steps=10, params={})
    tracker.progress("stage1", 10, 10, STEP)
    tracker.scored("stage1", [{"task": "prose", "metric": "bits_per_byte", "split": "dev", "value": 2.0}])
    tracker.stage_finished("stage1", uri="x", reused=False, seconds=2.0)
    tracker.stage_started("soup", total_steps=0, params={})
    assert samples(get(url)[1])["lehr_train_loss", "stage1"] == 2.5  # its last value can still be fetched
    now.seconds += 61
    time.sleep(0.6)  # the text is a new one
    left = {name for name, stage in samples(get(url)[1]) if stage == "stage1"}
    gauges = {metric.name for metric in m.METRICS if metric.kind == "gauge"}
    assert left & gauges == {
        "lehr_stage_started_timestamp_seconds",
        "lehr_stage_seconds",
        "lehr_stage_reused",
        "lehr_eval_score",
    }
    assert {"lehr_train_steps_total", "lehr_train_tokens_total"} <= left  # counters stay: rates over the end need them


def test_the_last_values_of_a_short_task_are_fetched_before_it_ends() -> None:
    tracker = PrometheusTracker(About("tiny"))
    url = tracker.start(0, last_scrape_seconds=20.0)
    get(url)
    tracker.progress("stage1", 10, 10, STEP)
    found: list[str] = []
    late = threading.Timer(0.5, lambda: found.append(get(url)[1]))
    late.start()
    began = time.monotonic()
    tracker._patience = lambda: 20.0  # type: ignore[method-assign] # however old this process is
    tracker.close()
    assert 0.4 < time.monotonic() - began < 10
    late.join()
    assert samples(found[0])["lehr_train_loss", "stage1"] == 2.5


def test_nobody_waits_for_a_scraper_that_does_not_come(tracker: PrometheusTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.monitoring.exporter.process_age", lambda: 50.0)
    tracker.start(0, last_scrape_seconds=20.0)
    assert tracker._patience() == 0.0  # nobody has come for so long
    tracker.exposition.fetched()
    tracker.exposition.fetched()
    assert 1.0 <= tracker._patience() < 2.0
    began = time.monotonic()
    tracker.close(failed=True)
    assert time.monotonic() - began < 1.0


def test_many_scrapers_get_one_text(tracker: PrometheusTracker) -> None:
    made: list[int] = []
    tracker.exposition._before = lambda: made.append(1)
    url = tracker.start(0)
    assert len({get(url)[1] for _ in range(30)}) <= 2 and 1 <= len(made) <= 3
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert "openmetrics" in answer.headers["Content-Type"] and answer.read().endswith(b"# EOF\n")


def test_another_pod_of_a_run_says_where_it_is_and_what_its_ranks_counted() -> None:
    counters.declare("attempts", ("stage", "ended")).add(1, stage="stage1", ended="machine")
    exporter = PodExporter("tiny-1", Pod("stage1", "team-a", "tiny-1-stage1-1", "node-7", "8"), OneGpu())
    url = exporter.start(0, "127.0.0.1")
    try:
        text = get(url)[1]
    finally:
        exporter.close()
    where = 'namespace="team-a",node="node-7",pod="tiny-1-stage1-1",run="tiny-1",stage="stage1"'
    assert f'lehr_pod_info{{first_rank="8",{where}}} 1.0' in text

    assert 'lehr_attempts_total{ended="machine",run="tiny-1",stage="stage1"}' in text
    assert 'lehr_gpu_memory_used_ratio{run="tiny-1"} 0.0375' in text and 'lehr_gpus{run="tiny-1"} 1.0' in text
    assert "lehr_train" not in text and "lehr_gpu_memory_size" not in text  # rank 0 says that for all
