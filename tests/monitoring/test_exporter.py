"""/metrics and /health as a scraper sees them, and the one list of names."""

from __future__ import annotations

import json
import math
import mmap
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.infra.pod.pod_request import run_name
from lehr.monitoring import metrics as m
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.metrics import run
from lehr.runtime import heartbeat
from lehr.runtime.metrics import require
from lehr.tasks import exporting
from tests.monitoring.exported import STEP, Meter, OneGpu, Time, get, samples


def test_a_run_as_the_scraper_sees_it(tracker: PrometheusTracker) -> None:
    url = tracker.start(0)
    tracker.stage_started("stage1", total_steps=1000, params={})
    for step in (301, 302, 303, 303):  # resumed at 300; the last report is about a step already counted
        tracker.progress("stage1", step, 1000, {**STEP, "skipped": float(step == 302), "tokens": 2048 if step != 303 else 1024})
    tracker.progress("stage1", 304, 1000, {"loss": math.nan, "checkpoint_seconds": 0.3, "checkpoint_bytes": 4096})
    got, value, here = samples(get(url)[1]), tracker.registry.get_sample_value, {"run": "tiny", "stage": "stage1"}
    assert got["lehr_train_steps_total", "stage1"] == 4
    assert got["lehr_train_step", "stage1"] == 304 and got["lehr_train_steps_planned", "stage1"] == 1000
    assert got["lehr_train_tokens_total", "stage1"] == 2 * 2048 + 2 * 1024
    assert got["lehr_train_flops_total", "stage1"] == 4e9
    skipped = {
        reason: value("lehr_train_steps_skipped_total", {**here, "reason": reason}) for reason in ("spike", "not_finite")
    }
    assert skipped == {"spike": 1, "not_finite": 0}  # a counter whose first value is 1 has not grown
    assert got["lehr_train_rollbacks_total", "stage1"] == got["lehr_train_steps_rework_total", "stage1"] == 0
    assert (
        got["lehr_stage_started_timestamp_seconds", "stage1"] == got["lehr_train_resumed_timestamp_seconds", "stage1"] == 1000
    )
    assert math.isnan(got["lehr_train_loss", "stage1"]) and got["lehr_train_grad_norm", "stage1"] == 0.9
    assert got["lehr_train_step_seconds_count", "stage1"] == 4 and got["lehr_train_active", "stage1"] == 1
    assert got["lehr_checkpoint_size_bytes", "stage1"] == 4096 and got["lehr_checkpoint_blocking_seconds_count", "stage1"] == 1
    assert not any("never_heard_of" in name for name, _ in got)


def test_development_measurements_are_no_steps_and_a_sign_of_life(tracker: PrometheusTracker) -> None:
    now = tracker._now
    assert isinstance(now, Time)
    tracker.progress("stage1", 300, 1000, STEP)
    now.seconds += 100
    tracker.evaluated("stage1", 300, {"dev_bits_per_byte": 2.25, "dev_bits_per_byte@novel": 1.5})
    tracker.evaluated("stage1", 350, {"dev_bits_per_byte": 2.0, "evaluation_seconds": 30.0})
    value = tracker.registry.get_sample_value
    labels = {"run": "tiny", "stage": "stage1"}
    assert value("lehr_train_dev_metric", {**labels, "metric": "dev_bits_per_byte"}) == 2.0
    assert value("lehr_train_dev_metric", {**labels, "metric": "dev_bits_per_byte@novel"}) == 1.5
    assert value("lehr_train_dev_metric", {**labels, "metric": "evaluation_seconds"}) is None  # seconds on an axis of bits
    assert value("lehr_train_steps_total", labels) == 1 and value("lehr_train_step", labels) == 300
    assert value("lehr_train_heartbeat_timestamp_seconds", labels) == now.seconds


def test_memory_is_read_at_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.monitoring.usage.FRESH_SECONDS", 0.0)
    tracker = PrometheusTracker(About("tiny-12"), gpus=OneGpu())
    value = tracker.registry.get_sample_value
    before, peak = (value(f"lehr_memory_resident_{name}", {"run": "tiny-12"}) for name in ("bytes", "peak_bytes"))
    assert before is not None and peak is not None and 2**20 < before <= peak
    block = mmap.mmap(-1, 64 * 2**20)  # pages of their own: the allocator may have as much lying about
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    after = value("lehr_memory_resident_bytes", {"run": "tiny-12"})
    assert after is not None and after - before > 32 * 2**20 and block
    found = [value(f"lehr_gpu{name}", {"run": "tiny-12"}) for name in ("s", "_memory_used_ratio", "_memory_size_bytes")]
    assert found == [1, 3 / 80, 80 * 2**30]


def test_two_runs_of_one_recipe_have_two_labels_and_say_where_they_are() -> None:
    keys = ("0123456789abcdef", "fedcba9876543210")
    labels = [run_name("tiny-olmo2", key) for key in keys]
    assert labels == ["tiny-olmo2-01234567", "tiny-olmo2-fedcba98"]
    tracker = PrometheusTracker(About(labels[0], name="tiny-olmo2", place="second try" * 20))
    [family] = [f for f in tracker.registry.collect() if f.name == "lehr_run_info"]
    [sample] = family.samples
    assert sample.labels == {"run": labels[0], "name": "tiny-olmo2", "place": ("second try" * 20)[:64]}


def test_energy_goes_to_the_stage_that_drew_it(tracker: PrometheusTracker) -> None:
    meter = tracker._power
    assert isinstance(meter, Meter)
    for stage, joules in (("stage1", 50.0), ("soup", 7.0)):
        tracker.stage_started(stage, total_steps=0, params={})
        meter.value += joules
        tracker.stage_finished(stage, uri="", reused=False, seconds=1.0)
        meter.value += 3.0  # scored after its end: still this stage's, not the next one's
    tracker.stage_started("sft", total_steps=0, params={})
    value = tracker.registry.get_sample_value
    assert value("lehr_energy_joules_total", {"run": "tiny", "stage": "stage1"}) == 53
    assert value("lehr_energy_joules_total", {"run": "tiny", "stage": "soup"}) == 10
    assert value("lehr_energy_source_info", {"run": "tiny", "source": "estimated"}) == 1


def test_a_stage_that_counts_something_else_takes_no_training_steps(tracker: PrometheusTracker) -> None:
    tracker.progress("scores-stage1", 3, 10, {})
    assert tracker.registry.get_sample_value("lehr_train_steps_total", {"run": "tiny", "stage": "scores-stage1"}) is None
    assert tracker.health()[0] == 200


def test_health_turns_503_only_while_steps_are_due(tracker: PrometheusTracker) -> None:
    now = tracker._now
    assert isinstance(now, Time)
    base = tracker.start(0).removesuffix("/metrics")
    tracker.stage_started("documents", total_steps=0, params={})
    now.seconds += 3600  # a long stage without steps is not stalled
    assert get(f"{base}/health")[0] == 200
    tracker.progress("stage1", 1, 10, {"step_seconds": 30.0})
    now.seconds += 500  # slow steps may take long: 20 x 30 s
    assert get(f"{base}/health")[0] == 200
    now.seconds += 200
    status, body = get(f"{base}/health")
    assert status == 503 and json.loads(body)["status"] == "stalled" and json.loads(body)["step"] == 1
    tracker.progress("stage1", 10, 10, {"loss": 1.0})
    now.seconds += 9999  # all steps are taken: scoring and saving
    assert get(f"{base}/health")[0] == 200
    assert get(f"{base}/elsewhere")[0] == 404


def test_taken_port_falls_back_to_a_free_one_and_says_so(tracker: PrometheusTracker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        notes: list[str] = []
        url = tracker.start(port, note=notes.append)
    assert url.startswith("http://127.0.0.1:") and f":{port}/" not in url
    assert len(notes) == 1 and str(port) in notes[0] and get(url)[0] == 200


def test_scores_and_outcomes(tracker: PrometheusTracker) -> None:
    record = {
        "task": "arithmetic",
        "split": "held_out",
        "metric": "exact_match",
        "value": 0.75,
        "stderr": 0.02,
        "n": 300,
        "seed": 7,
    }
    tracker.scored("soup", [record, {**record, "task": "broken", "value": None, "stderr": None}])
    tracker.stage_finished("soup", uri="x", reused=True, seconds=2.0)
    labels = {"run": "tiny", "stage": "soup", "task": "arithmetic", "metric": "exact_match", "split": "held_out"}
    value = tracker.registry.get_sample_value
    assert value("lehr_eval_score", labels) == 0.75 and value("lehr_eval_score_stderr", labels) == 0.02
    assert value("lehr_eval_score", {**labels, "task": "broken"}) is None
    assert value("lehr_stages_finished_total", {"run": "tiny", "outcome": "reused"}) == 1


def test_names_follow_the_conventions_and_none_is_dead() -> None:
    units = ("_seconds", "_joules", "_bytes", "_nats", "_info", "_total")
    sources = ("exporter", "memory_gauges", "pod_exporter", "metrics.registry")
    names = [metric.name for metric in m.METRICS]
    assert len(set(names)) == len(names) >= 25
    for metric in m.METRICS:
        assert re.fullmatch(r"lehr_[a-z][a-z0-9_]*", metric.name) and metric.help.endswith(".")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert metric.kind != "histogram" or metric.name.endswith(units)
        assert "run" in metric.labels
    source = "".join(Path(str(sys.modules[f"lehr.monitoring.{name}"].__file__)).read_text() for name in sources)
    source += Path(exporting.__file__).read_text()
    constants = [name for name, value in vars(run).items() if isinstance(value, m.Metric)]
    fed = [name for name in constants if getattr(run, name).of or getattr(run, name).counted]
    assert [name for name in constants if f"m.{name}" not in source and name not in fed] == []
    require(metric.of for metric in m.METRICS if metric.of)
    assert "lehr_" not in source


def test_the_list_of_names_costs_nothing_to_import() -> None:
    code = "import sys, lehr.monitoring.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"mlflow", "rich", "prometheus_client", "pydantic", "torch", "numpy"}
    own = {m for m in loaded if m.split(".")[0] == "lehr"} - {"lehr", "lehr.monitoring"}
    assert {name.rpartition("metrics")[0] for name in own} == {"lehr.monitoring."}


def test_what_takes_long_between_steps_is_no_stall_if_the_loop_says_so(
    tracker: PrometheusTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = tracker._now
    assert isinstance(now, Time)
    tracker.progress("stage1", 300, 1000, STEP)
    now.seconds += 3600
    assert tracker.health()[0] == 503
    monkeypatch.setattr(heartbeat, "_paused", False)
    heartbeat.pausing(300)
    assert tracker.health()[0] == 200
    value = tracker.registry.get_sample_value
    labels = {"run": "tiny", "stage": "stage1"}
    tracker.exposition.render("")
    assert value("lehr_train_paused", labels) == 1 and value("lehr_train_active", labels) == 1
    assert value("lehr_node_seconds_total", {**labels, "category": "stalled"}) is None
    heartbeat.stepping(301)
    tracker.exposition.fresh_seconds = 0.0
    tracker.exposition.render("")
    assert value("lehr_train_paused", labels) == 0 and tracker.health()[0] == 503


def test_steps_between_checkpoints_are_what_they_were_at_most(tracker: PrometheusTracker) -> None:
    """From the save that a process went on from; a save at a preemption comes early and says nothing."""
    labels = {"run": "tiny", "stage": "stage1"}
    saved = {**STEP, "checkpoint_seconds": 0.3}
    for step, metrics, expected in ((301, STEP, None), (350, saved, 50.0), (360, saved, 50.0), (420, saved, 60.0)):
        tracker.progress("stage1", step, 1000, metrics)
        assert tracker.registry.get_sample_value("lehr_checkpoint_interval_steps", labels) == expected
    tracker.progress("stage2", 1, 1000, STEP)
    tracker.progress("stage2", 20, 1000, saved)
    assert tracker.registry.get_sample_value("lehr_checkpoint_interval_steps", {**labels, "stage": "stage2"}) == 20
