"""Prometheus: /metrics and /health of a run, by default on loopback, from a registry of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from lehr.monitoring import metrics as m
from lehr.monitoring.gpus import Gpus
from lehr.monitoring.server import LOG, Server
from lehr.monitoring.usage import Usage
from lehr.runtime.metrics import find
from lehr.runtime.ports import NullPower, Power

STALL_SECONDS = 120.0  # an evaluation or a checkpoint between two steps may take this long without an alarm
STALL_STEPS = 20.0  # and on slow models this many times the slowest recent step
_GAUGES = {metric.of: metric for metric in m.METRICS if metric.of}
_COUNTERS = {"tokens": m.TRAIN_TOKENS, "flops": m.TRAIN_FLOPS, "data_seconds": m.TRAIN_DATA_WAIT}
_KEY_CHARACTERS, _PLACE_CHARACTERS = 8, 64


def run_label(name: str, key: str) -> str:
    """The label `run` for a recipe of this name and a run with this key: see lehr.monitoring.metrics."""
    return f"{name}-{key[:_KEY_CHARACTERS]}"


def build_registry() -> tuple[CollectorRegistry, dict[str, Any]]:
    """A new registry with every metric of `lehr.monitoring.metrics`, and the collectors by full name."""
    registry = CollectorRegistry()
    made: dict[str, Any] = {}
    for metric in m.METRICS:
        if metric.kind == "histogram":
            made[metric.name] = Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
        else:
            kind = Counter if metric.kind == "counter" else Gauge
            made[metric.name] = kind(metric.name, metric.help, metric.labels, registry=registry)
    return registry, made


class PrometheusTracker:
    """The Tracker port as Prometheus metrics. `start()` serves them; without it the registry can still be read.

    Of the `progress` metrics it exports those declared in `lehr.runtime.metrics` with a panel of the report, and tokens, flops,
    step_seconds, data_seconds, skipped, checkpoint_seconds and checkpoint_bytes. Others are for MLflow only and ignored here.
    """

    def __init__(
        self,
        run: str,
        *,
        model: str = "",
        recipe_sha256: str = "",
        name: str = "",
        place: str = "",
        power: Power | None = None,
        gpus: Gpus | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`run` is the label (`run_label`), `name` the recipe's name, `place` the last part of the run's folder or address."""
        self.registry, self._metrics = build_registry()
        self._run, self._model, self._recipe, self._now = run, model, recipe_sha256[:12], now
        self._power = power or NullPower()
        self._joules = self._power.joules()
        self._energy_read_at = now()
        self._stage, self._last_step = "", 0
        self._active, self._heartbeat, self._slowest_seconds = False, now(), 0.0
        self._server: Server | None = None
        self._get(m.ENERGY_SOURCE, source=self._power.source).set(1)
        self._get(m.RUN_INFO, name=name or run, place=place[:_PLACE_CHARACTERS]).set(1)
        self._show_memory(Usage(gpus))

    def _get(self, metric: m.Metric, /, **labels: str) -> Any:
        return self._metrics[metric.name].labels(run=self._run, **labels)

    # -- the Tracker port

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        self._charge_energy()  # the energy used until now belongs to the stage before
        self._stage, self._last_step, self._slowest_seconds, self._active = stage, 0, 0.0, False
        self._beat(stage)

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if stage != self._stage:  # the caller did not call stage_started
            self.stage_started(stage, total_steps=total_steps, params={})
        if not metrics:  # a stage that counts something other than optimiser steps: it makes progress, with nothing to plot
            self._beat(stage)
            return
        self._get(m.TRAIN_INFO, stage=stage, model=self._model, recipe=self._recipe).set(1)
        self._get(m.TRAIN_STEPS_PLANNED, stage=stage).set(total_steps)
        taken = max(step - self._last_step, 0) if self._last_step else 1  # the first reported step may follow a resume
        self._last_step = max(step, self._last_step)
        self._beat(stage)
        self._set_active(stage, step < total_steps)
        self._get(m.TRAIN_STEP, stage=stage).set(step)
        self._get(m.TRAIN_STEPS, stage=stage).inc(taken)
        if metrics.get("skipped"):
            reason = "not_finite" if metrics.get("not_finite") else "spike"
            self._get(m.TRAIN_STEPS_SKIPPED, stage=stage, reason=reason).inc()
        for key in _COUNTERS.keys() & metrics.keys():
            self._get(_COUNTERS[key], stage=stage).inc(max(metrics[key], 0))
        for key, value in metrics.items():
            if key in _GAUGES:
                self._get(_GAUGES[key], stage=stage).set(value)
            elif (declared := find(key)) is not None and declared.panel:
                self._get(m.TRAIN_METRIC, stage=stage, metric=key).set(value)
        if "step_seconds" in metrics:
            # Decays by 1 % a step, so that one slow step (compilation) does not keep the limit of /health high for ever.
            self._slowest_seconds = max(self._slowest_seconds * 0.99, metrics["step_seconds"])
            self._get(m.TRAIN_STEP_SECONDS, stage=stage).observe(metrics["step_seconds"])
        self._checkpoint(stage, metrics)
        # Not on every step: for an estimate each reading walks all of /proc.
        if self._now() - self._energy_read_at >= 2.0:
            self._charge_energy()

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        self._beat(stage)
        for key, value in metrics.items():
            self._get(m.TRAIN_DEV_METRIC, stage=stage, metric=key).set(value)

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        self._charge_energy()
        self._beat(stage)
        self._set_active(stage, False)
        self._get(m.STAGE_SECONDS, stage=stage).set(seconds)
        self._get(m.STAGE_REUSED, stage=stage).set(int(reused))
        self._get(m.STAGES_FINISHED, outcome="reused" if reused else "made").inc()

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        for record in records:
            labels = {key: str(record.get(key, "")) for key in ("task", "metric", "split")}
            for key, gauge in (("value", m.EVAL_SCORE), ("stderr", m.EVAL_SCORE_STDERR)):
                value = record.get(key)
                if isinstance(value, int | float):
                    self._get(gauge, stage=stage, **labels).set(value)

    def note(self, text: str) -> None:
        return None

    # -- parts of it

    def _show_memory(self, usage: Usage) -> None:
        """These gauges are read on each scrape, in the scraper's thread, and cost training nothing."""
        self._get(m.MEMORY_RESIDENT).set_function(usage.resident)
        self._get(m.MEMORY_PEAK).set_function(usage.peak)
        for index in usage.gpus():
            self._get(m.GPU_MEMORY, gpu=str(index)).set_function(partial(usage.gpu_used, index))
            self._get(m.GPU_MEMORY_SIZE, gpu=str(index)).set_function(partial(usage.gpu_size, index))

    def _beat(self, stage: str) -> None:
        self._heartbeat = self._now()
        self._get(m.TRAIN_HEARTBEAT, stage=stage).set(self._heartbeat)

    def _set_active(self, stage: str, active: bool) -> None:
        self._active = active
        self._get(m.TRAIN_ACTIVE, stage=stage).set(int(active))

    def _checkpoint(self, stage: str, metrics: Mapping[str, float]) -> None:
        if "checkpoint_seconds" in metrics:
            self._get(m.CHECKPOINT_SECONDS, stage=stage).observe(metrics["checkpoint_seconds"])
            self._get(m.CHECKPOINT_TIMESTAMP, stage=stage).set(self._now())
        if "checkpoint_bytes" in metrics:
            self._get(m.CHECKPOINT_BYTES, stage=stage).set(metrics["checkpoint_bytes"])

    def _charge_energy(self) -> None:
        joules = self._power.joules()
        if self._stage and joules > self._joules:
            self._get(m.ENERGY_JOULES, stage=self._stage).inc(joules - self._joules)
        self._joules, self._energy_read_at = joules, self._now()

    # -- serving

    def health(self) -> tuple[int, dict[str, object]]:
        """HTTP status and body of /health: 503 if a stage takes steps and its last report is too old."""
        age = self._now() - self._heartbeat
        limit = max(STALL_SECONDS, STALL_STEPS * self._slowest_seconds)
        stalled = self._active and age > limit
        body: dict[str, object] = {
            "status": "stalled" if stalled else "ok",
            "stage": self._stage,
            "step": self._last_step,
            "heartbeat_age_seconds": round(age, 3),
            "stalled_after_seconds": round(limit, 3),
        }
        return (503 if stalled else 200), body

    def start(self, port: int = 0, address: str = "127.0.0.1", note: Callable[[str], None] = LOG.warning) -> str:
        """Serve /metrics and /health; returns the URL. Port 0 means any free port; if `port` is taken, a free one is used and
        `note` is called. Returns "" if no port is available: training goes on without metrics.
        """
        for candidate in dict.fromkeys((port, 0)):
            try:
                self._server = Server((address, candidate), _handler(self))
            except (OSError, OverflowError) as error:
                otherwise = "taking a free port" if candidate else "there will be no /metrics"
                note(f"metrics: cannot listen on {address}:{candidate} ({error}); {otherwise}")
                continue
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
            return f"http://{address}:{self._server.server_address[1]}/metrics"
        return ""

    def close(self, *, failed: bool | None = False) -> None:
        """Stop serving. The registry can still be read."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _handler(tracker: PrometheusTracker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/") or "/"
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(tracker.registry))
            elif path == "/health":
                status, body = tracker.health()
                self._answer(status, "application/json", json.dumps(body).encode() + b"\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", b"Here are /metrics and /health.\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None  # one line for each scrape would bury the run's own output

    return Handler
