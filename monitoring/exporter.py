"""A run's metrics for Prometheus: the tracker that sets them, by default served on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from lehr.monitoring.gpus import Gpus
from lehr.monitoring.machine import process_age
from lehr.monitoring.memory_gauges import show_memory
from lehr.monitoring.metrics import METRICS, Metric
from lehr.monitoring.metrics import run as m
from lehr.monitoring.metrics.registry import Registry
from lehr.monitoring.pod_exporter import Pod, show_pod
from lehr.monitoring.serving.exposition import Exposition
from lehr.monitoring.serving.server import LOG, Server, serve
from lehr.monitoring.spikes import SpikeScore
from lehr.monitoring.time_ledger import TimeLedger
from lehr.monitoring.usage import Usage
from lehr.runtime import heartbeat
from lehr.runtime.metrics import DEV, find
from lehr.runtime.ports import NullPower, Power

STALL_SECONDS = 120.0  # a step, or what the loop does between two without saying so, may take this long without an alarm
STALL_STEPS = 20.0  # and on slow models this many times the slowest recent step
KEEP_SECONDS = 60.0  # for which a stage's last gauges stay after its end: two scrapes of most Prometheus servers, or more
SKIPPED = ("spike", "not_finite")  # why an update was not applied
PARTS = ("data", "forward", "backward", "sampling", "communication", "optimizer")
_SUMMED = {metric.of: metric for metric in METRICS if metric.of and metric.kind == "counter"}
_LAST = {metric.of: metric for metric in METRICS if metric.of and metric.kind == "gauge"}
_SCORED = ("loss", "grad_norm")
_PLACE_CHARACTERS = 64


@dataclass(frozen=True)
class About:
    """What the run is: its label (lehr.infra.pod.pod_request.run_name), the recipe's name and hash, the model's family, and
    `place`, the last part of the run's folder or address; `constants` are gauges that never change; `peak_flops` is what its
    hardware can do in a second; `nodes`: machines that work on each stage."""

    run: str
    name: str = ""
    model: str = ""
    recipe_sha256: str = ""
    place: str = ""
    constants: Mapping[Metric, float] = field(default_factory=dict)
    peak_flops: float = 0.0
    nodes: int = 1


class PrometheusTracker:
    """The Tracker port as Prometheus metrics. `start()` serves them; without it the registry can still be read.

    Of the `progress` metrics it exports those that a metric is declared to be `of`, the times of a step's parts, those
    declared in `lehr.runtime.metrics` with a panel of the report, and step_seconds, skipped, checkpoint_seconds and
    checkpoint_bytes. Others are for MLflow only and ignored here.
    """

    def __init__(
        self, about: About, power: Power | None = None, gpus: Gpus | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._about, self._now = about, now
        self._registry = Registry(METRICS, {"run": about.run})
        self.registry = self._registry.prometheus
        self._power = power or NullPower()
        self._joules = self._power.joules()
        self._energy_read_at = now()
        self._stage, self._last_step, self._saved_step, self._save_interval = "", 0, 0, 0
        self._active, self._heartbeat, self._slowest_seconds = False, now(), 0.0
        self._ended: dict[str, float] = {}  # stages that are over, and since when
        self._spikes: dict[str, SpikeScore] = {}
        self._times = TimeLedger(self._spend, process_age())
        self._lock = threading.Lock()  # a scrape charges time, and drops series, while training reports
        self._server: Server | None = None
        self._last_scrape_seconds = 0.0
        self.exposition = Exposition(self.registry, self._before_scrape)
        self._registry.of(m.ENERGY_SOURCE, source=self._power.source).set(1)
        self._registry.of(m.RUN_INFO, name=about.name or about.run, place=about.place[:_PLACE_CHARACTERS]).set(1)
        for metric, value in about.constants.items():
            self._registry.of(metric).set(value)
        show_memory(self._registry, Usage(gpus))

    # -- the Tracker port

    def stage_started(self, stage: str, *, total_steps: int, params: Mapping[str, object]) -> None:
        self._charge_energy()  # the energy used until now belongs to the stage before
        self._leave(stage)
        self._stage, self._last_step, self._slowest_seconds, self._active = stage, 0, 0.0, False
        self._spikes = {name: SpikeScore() for name in _SCORED}
        with self._lock:
            self._times.started(stage)
        self._ended.pop(stage, None)
        self._registry.of(m.STAGE_PLANNED, stage=stage).set(total_steps)
        self._registry.of(m.STAGE_DONE, stage=stage).set(0)
        self._registry.of(m.STAGE_STARTED, stage=stage).set(self._now())
        self._beat(stage)

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        if stage != self._stage:  # the caller did not call stage_started
            self.stage_started(stage, total_steps=total_steps, params={})
        with self._lock:
            self._times.progress(stage, metrics)
        self._registry.of(m.STAGE_PLANNED, stage=stage).set(total_steps)
        self._registry.of(m.STAGE_DONE, stage=stage).set(step)
        self._beat(stage)
        if metrics:  # otherwise the stage counts something other than optimiser steps
            self._step(stage, step, total_steps, metrics)
        # Not on every step: for an estimate each reading walks all of /proc.
        if self._now() - self._energy_read_at >= 2.0:
            self._charge_energy()

    def evaluated(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._times.evaluated(stage)
        self._beat(stage)
        for key, value in metrics.items():
            if key.startswith(DEV):  # not the time that it took
                self._registry.of(m.TRAIN_DEV_METRIC, stage=stage, metric=key).set(value)

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        self._charge_energy()
        with self._lock:
            self._times.finished(stage, reused=reused)
        if not reused:
            self._beat(stage)
            self._set_active(stage, False)
        self._registry.of(m.STAGE_SECONDS, stage=stage).set(seconds)
        self._registry.of(m.STAGE_REUSED, stage=stage).set(int(reused))
        self._registry.of(m.STAGES_FINISHED, outcome="reused" if reused else "made").inc()
        self._leave("")

    def scored(self, stage: str, records: list[dict[str, object]]) -> None:
        for record in records:
            labels = {key: str(record.get(key, "")) for key in ("task", "metric", "split")}
            for key, gauge in (("value", m.EVAL_SCORE), ("stderr", m.EVAL_SCORE_STDERR)):
                value = record.get(key)
                if isinstance(value, int | float):
                    self._registry.of(gauge, stage=stage, **labels).set(value)

    def note(self, text: str) -> None:
        return None

    # -- parts of it

    def _step(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        of = partial(self._registry.of, stage=stage)
        of(m.TRAIN_INFO, model=self._about.model, recipe=self._about.recipe_sha256[:12]).set(1)
        of(m.TRAIN_STEPS_PLANNED).set(total_steps)
        if self._about.peak_flops:
            of(m.TRAIN_FLOPS_PEAK).set(self._about.peak_flops)
        if not self._last_step:
            self._first_step(stage, step)
        taken = max(step - self._last_step, 0) if self._last_step else 1  # the first reported step may follow a resume
        self._last_step = max(step, self._last_step)
        self._set_active(stage, step < total_steps)
        of(m.TRAIN_STEP).set(step)
        of(m.TRAIN_STEPS).inc(taken)
        if metrics.get("skipped"):
            of(m.TRAIN_STEPS_SKIPPED, reason=SKIPPED[bool(metrics.get("not_finite"))]).inc()
        for key, value in metrics.items():
            if key in _SUMMED:
                of(_SUMMED[key]).inc(max(value, 0.0))
            elif key in _LAST:
                of(_LAST[key]).set(value)
            elif (declared := find(key)) is not None and declared.panel:
                of(m.TRAIN_METRIC, metric=key).set(value)
        for name in _SCORED:
            if name in metrics:
                share = self._spikes[name].add(metrics[name])
                if self._spikes[name].tells:
                    of(m.TRAIN_SPIKES, metric=name).set(share)
        if "step_seconds" in metrics:
            self._took(stage, metrics["step_seconds"], metrics)
        self._checkpoint(stage, step, metrics)

    def _first_step(self, stage: str, step: int) -> None:
        """Of this process. Prometheus sees a counter's growth from its first value on: what may happen once begins at 0."""
        for reason in SKIPPED:
            self._registry.of(m.TRAIN_STEPS_SKIPPED, stage=stage, reason=reason)
        for metric in (m.TRAIN_REWORK, m.TRAIN_ROLLBACKS):
            self._registry.of(metric, stage=stage)
        self._saved_step, self._save_interval = step - 1, 0  # a stage goes on from a save, or begins at 0
        if step > 1:
            self._registry.of(m.TRAIN_RESUMED, stage=stage).set(self._now())

    def _took(self, stage: str, seconds: float, metrics: Mapping[str, float]) -> None:
        # Decays by 1 % a step, so that one slow step (compilation) does not keep the limit of /health high for ever.
        self._slowest_seconds = max(self._slowest_seconds * 0.99, seconds)
        self._registry.of(m.TRAIN_STEP_SECONDS, stage=stage).observe(seconds)
        known = {part: metrics[f"{part}_seconds"] for part in PARTS if f"{part}_seconds" in metrics}
        for part, spent in {**known, "other": seconds - sum(known.values())}.items():
            self._registry.of(m.TRAIN_PARTS, stage=stage, part=part).inc(max(spent, 0.0))

    def _spend(self, stage: str, category: str, seconds: float) -> None:
        self._registry.of(m.NODE_SECONDS, stage=stage, category=category).inc(seconds * self._about.nodes)

    def _leave(self, next_stage: str) -> None:
        """The stage so far is over: its gauges go, once they have been seen as they were at the end."""
        if self._stage and self._stage != next_stage:
            self._ended.setdefault(self._stage, self._now())

    def _before_scrape(self) -> None:
        with self._lock:
            self._times.look(stalled=self._stalled()[0])
            if self._active:
                self._registry.of(m.TRAIN_PAUSED, stage=self._stage).set(int(heartbeat.paused()))
            for stage in [name for name, since in self._ended.items() if self._now() - since > KEEP_SECONDS]:
                self._registry.drop(stage=stage)
                del self._ended[stage]

    def _beat(self, stage: str) -> None:
        self._heartbeat = self._now()
        self._registry.of(m.TRAIN_HEARTBEAT, stage=stage).set(self._heartbeat)

    def _set_active(self, stage: str, active: bool) -> None:
        self._active = active
        self._registry.of(m.TRAIN_ACTIVE, stage=stage).set(int(active))

    def _checkpoint(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        if "checkpoint_seconds" in metrics:
            self._saved_step, self._save_interval = step, max(self._save_interval, step - self._saved_step)
            self._registry.of(m.CHECKPOINT_INTERVAL, stage=stage).set(self._save_interval)
            self._registry.of(m.CHECKPOINT_SECONDS, stage=stage).observe(metrics["checkpoint_seconds"])
            self._registry.of(m.CHECKPOINT_TIMESTAMP, stage=stage).set(self._now())
        if "checkpoint_bytes" in metrics:
            self._registry.of(m.CHECKPOINT_BYTES, stage=stage).set(metrics["checkpoint_bytes"])

    def _charge_energy(self) -> None:
        joules = self._power.joules()
        if self._stage and joules > self._joules:
            self._registry.of(m.ENERGY_JOULES, stage=self._stage).inc(joules - self._joules)
        self._joules, self._energy_read_at = joules, self._now()

    # -- serving

    def _stalled(self) -> tuple[bool, float, float]:
        """Whether a stage takes steps and its last report is too old; the report's age and the limit, in seconds."""
        age = self._now() - self._heartbeat
        limit = max(STALL_SECONDS, STALL_STEPS * self._slowest_seconds)
        return self._active and not heartbeat.paused() and age > limit, age, limit

    def health(self) -> tuple[int, dict[str, object]]:
        """HTTP status and body of /health: 503 while training is stalled."""
        stalled, age, limit = self._stalled()
        body: dict[str, object] = {
            "status": "stalled" if stalled else "ok",
            "stage": self._stage,
            "step": self._last_step,
            "heartbeat_age_seconds": round(age, 3),
            "stalled_after_seconds": round(limit, 3),
        }
        return (503 if stalled else 200), body

    def show_pod(self, pod: Pod) -> None:
        """Say in which pod this process runs."""
        show_pod(self._registry, pod)

    def start(
        self,
        port: int = 0,
        address: str = "127.0.0.1",
        note: Callable[[str], None] = LOG.warning,
        last_scrape_seconds: float = 0.0,
    ) -> str:
        """Serve /metrics and /health; returns the URL. Port 0 means any free port; if `port` is taken, a free one is used and
        `note` is called. Returns "" if no port is available: training goes on without metrics. `close` waits up to
        `last_scrape_seconds` for the last values to be fetched.
        """
        self._server, url = serve(address, port, self.exposition, self.health, note)
        self._last_scrape_seconds = last_scrape_seconds
        return url

    def close(self, *, failed: bool | None = False) -> None:
        """Stop serving, after the last values have been fetched if that may be waited for. The registry can still be read."""
        if self._server is None:
            return
        if not failed:
            self.exposition.await_fetch(self._patience())
        self._server.stop()
        self._server = None

    def _patience(self) -> float:
        """Seconds to wait for a last scrape: no more than one interval, and nothing where nobody has come for so long that
        nobody will."""
        if self.exposition.interval is not None:
            return min(self._last_scrape_seconds, 1.2 * self.exposition.interval + 1.0)
        return self._last_scrape_seconds if process_age() < 2 * self._last_scrape_seconds else 0.0
