"""Eight minutes of a run and of a fleet as Prometheus would have scraped them: the real exporter and the real controller's
metrics, with a clock that the test moves. What a GPU or dcgm-exporter would add is made up, by the lists of labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from lehr.data.preparation.funnel import CHARACTERS, DOCUMENTS
from lehr.data.preparation.pace import PREPARED, PREPARED_BYTES
from lehr.infra.controller.metrics import ControllerMetrics, Run
from lehr.infra.fleet.breaker import BreakerStatus
from lehr.infra.fleet.views import NodeRecord, NodeState, NodeView
from lehr.infra.storage.counting import BYTES, REQUESTS, RETRIES, SECONDS
from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.metrics import RECORDED, Fleet
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.history import STALE, History
from lehr.monitoring.pod_exporter import Pod
from lehr.monitoring.serving.inference import serving_exposition
from lehr.monitoring.time_ledger import TimeLedger
from lehr.pipeline.run import ATTEMPTS
from lehr.post.rewards import objectives as _rewards  # noqa: F401  # declares what models of rewards report
from lehr.serving import counts
from tests.monitoring.exported import Meter, OneGpu, Time

SCRAPE, SECONDS_LONG, STEP_SECONDS = 15.0, 480.0, 3.0
BEGAN = 1_700_000_000.0
RUN = "tiny-olmo2-01234567"
PRETRAINING = {
    "loss": 2.5, "grad_norm": 0.9, "learning_rate": 3e-3, "tokens": 2048, "flops": 1e9, "data_seconds": 0.1,
    "forward_seconds": 0.8, "backward_seconds": 1.2, "communication_seconds": 0.2, "optimizer_seconds": 0.1, "least_load": 0.7,
    "straggler_ratio": 1.04, "slowest_rank": 3, "guard_loss_limit": 3.5, "guard_grad_norm_limit": 2.0,
}  # fmt: skip
RL = {
    **PRETRAINING, "sampling_seconds": 0.1, "reward": 0.4, "kl": 0.02, "margin_over_reference": 0.1,
    "response_tokens": 90, "unfinished": 0.05, "preference_accuracy": 0.6, "chat_loss": 1.2, "clipped": 0.01,
    "sampler_difference": 1e-5,
}  # fmt: skip
# What single methods report beside that, by stage: one pod has one stage at a time, and all shall be there at the end.
OF_METHODS = {
    "ppo": {"answer_kl": 1.2, "kl_coefficient": 0.05, "value_loss": 0.2, "explained_variance": 0.3, "embedding_norm": 1.1},
    "brain": {"posterior_kl": 0.4, "posterior_samples": 2.5, "policy_samples": 3.1},
    "rewards": {"reward_margin": 0.7, "reward_accuracy": 0.8, "rating_error": 0.5, "masked_instances": 2.0},
}


@dataclass
class Recording:
    """What was scraped: samples in memory, and as lines of OpenMetrics with their times."""

    history: History = field(default_factory=History)
    lines: dict[str, list[str]] = field(default_factory=dict)  # family -> lines, since a family's must stand together
    last: dict[str, str] = field(default_factory=dict)  # what each instance said at the last scrape

    def scrape(self, registry: CollectorRegistry, instance: str, at: float) -> None:
        text = self.last[instance] = generate_latest(registry).decode()
        self.history.scrape(text, at, {"instance": instance, "job": "lehr"})
        family = ""
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                _, _, family, kind = line.split()
                self.lines.setdefault(family, [f"# TYPE {family.removesuffix('_total')} {kind}"])
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                bare, _, labels = name.partition("{")
                given = ",".join(filter(None, [labels.removesuffix("}"), f'instance="{instance}",job="lehr"']))
                self.lines[family].append(f"{bare}{{{given}}} {value} {at:.3f}")

    def openmetrics(self) -> str:
        """For `promtool tsdb create-blocks-from openmetrics`."""
        return "\n".join(line for lines in self.lines.values() for line in lines) + "\n# EOF\n"


def without(history: History, name: str, instead: str = "") -> History:
    """The same samples, in which the metric `name` is not there or has another name."""
    made = History()
    for found, series in history._series.items():
        own = found == name or (found.startswith(name) and found.removeprefix(name) in ("_bucket", "_sum", "_count"))
        if not own or instead:
            made._series[found.replace(name, instead) if own else found] = series
    return made


def unmarked(history: History) -> History:
    """The same samples without the marks of series that ended: backfilled blocks have none."""
    made = History()
    for name, series in history._series.items():
        for labels, points in series.items():
            for at, value in points:
                if value is not STALE:
                    made.add(name, dict(labels), at, value)
    return made


def record(patch: pytest.MonkeyPatch) -> Recording:
    """All that was scraped from BEGAN on for SECONDS_LONG."""
    made, clock, meter = Recording(), Time(), Meter()
    clock.seconds = BEGAN
    about = About(
        RUN, "tiny-olmo2", "olmo2", "ab" * 32, "tiny", {m.SITE_PUE: 1.2, m.SITE_CARBON: 1e-4, m.SITE_WATER: 1e-6}, 1e12, 2
    )
    tracker = PrometheusTracker(about, meter, OneGpu(), clock)
    tracker._times = TimeLedger(tracker._spend, 4.0, clock)
    tracker.show_pod(Pod("stage1", "team-a", "tiny-stage1-0", "node-1", "0"))
    controller, others = ControllerMetrics(), _Others()
    acts, fleet = _run(tracker), _fleet(controller, clock)
    server = serving_exposition(_Decoding(), _Connected())
    while clock.seconds < BEGAN + SECONDS_LONG:
        for _ in range(round(SCRAPE / STEP_SECONDS)):
            clock.seconds += STEP_SECONDS
            meter.value += 900.0
            next(acts, None)
        next(fleet)
        _serve()
        for stage, metrics in OF_METHODS.items():
            for name, value in metrics.items():
                tracker._registry.of(m.TRAIN_METRIC, stage=stage, metric=name).set(value)
        tracker._before_scrape()
        server.render("")  # sets its gauges
        made.scrape(tracker.registry, "run:9400", clock.seconds)
        made.scrape(controller.registry, "controller:9404", clock.seconds)
        made.scrape(server._registry, "server:8000", clock.seconds)
        made.scrape(others.registry, "prometheus", clock.seconds)
    return made


def _run(tracker: PrometheusTracker) -> Iterator[None]:
    """One report every STEP_SECONDS."""
    yield from _documents(tracker)
    yield from _steps(tracker, "stage1", 60, PRETRAINING)
    tracker.stage_finished("stage1", uri="x", reused=False, seconds=180.0)
    yield from _steps(tracker, "rlvr", 200, RL)


def _documents(tracker: PrometheusTracker) -> Iterator[None]:
    tracker.stage_finished("tokenizer", uri="x", reused=True, seconds=2.0)
    tracker.stage_started("documents", total_steps=10, params={})
    for number in range(10):
        tracker.progress("documents", number, 10, {})
        PREPARED.add(6, **{"pass": "filter"})
        PREPARED_BYTES.add(4000, **{"pass": "filter"})
        for outcome in ("kept", "too_short"):
            DOCUMENTS.add(3, outcome=outcome)
            CHARACTERS.add(900, outcome=outcome)
        yield
    tracker.stage_finished("documents", uri="x", reused=False, seconds=30.0)
    ATTEMPTS.add(1, stage="documents", ended="finished")


def _steps(tracker: PrometheusTracker, stage: str, total: int, metrics: dict[str, float]) -> Iterator[None]:
    tracker.stage_started(stage, total_steps=total, params={})
    for step in range(5, total + 5):
        of_step = {**metrics, "loss": 3.0 - step / 100, "step_seconds": 2.0 + step % 3 / 4}
        if step < 12:  # as many spikes as a share of them is shown from
            of_step |= {"loss": math.nan, "grad_norm": math.nan}
        if step % 10 == 0:
            of_step |= {"checkpoint_seconds": 0.2, "checkpoint_bytes": 4096.0}
            tracker.evaluated(stage, step, {"dev_bits_per_byte": 2.0 - step / 200})
            _store()
        if step % 25 == 0:
            of_step |= {"skipped": 1.0, "rolled_back": 1.0, "rework": 1.0}
        tracker.progress(stage, min(step, total), total, of_step)
        if step == 20:
            scores = {"task": "prose", "split": "dev", "metric": "bits_per_byte", "value": 2.0, "stderr": 0.03}
            tracker.scored(stage, [scores, {**scores, "task": "math", "metric": "accuracy", "value": 0.4}])
        yield


def _store() -> None:
    REQUESTS.add(2, operation="put", outcome="ok")
    RETRIES.add(1, operation="put")
    BYTES.add(1e6, direction="sent")
    SECONDS.add(0.2, operation="put")


def _serve() -> None:
    """What a server does between two scrapes."""
    counts.REQUESTS.add(3, operation="completions", code="200")
    for seconds in (0.3, 0.7, 4.0):
        counts.REQUEST_SECONDS.add(seconds, operation="completions")
        counts.FIRST_TOKEN_SECONDS.add(seconds / 4)
    counts.TOKENS.add(60)
    counts.PROMPT_TOKENS.add(90)
    counts.LOADS.add(1, outcome="loaded")
    counts.QUEUE_SECONDS.add(0.2)
    counts.TOKEN_SECONDS.add(0.03, 57)
    counts.ANSWERS.add(3, reason="stop")
    counts.DROPPED.add(1)


class _Decoding:
    """A server at work."""

    max_rows, max_waiting, running, waiting, cached_tokens, cache_bytes = 8, 64, 5, 2, 900, 2**20


class _Connected:
    limit = 128

    def __len__(self) -> int:
        return 7


def _fleet(metrics: ControllerMetrics, clock: Callable[[], float]) -> Iterator[None]:
    """One round of the controller for each scrape, in which everything happens that it counts."""
    nodes = [NodeView(f"node-{number}", pool="a") for number in range(3)]
    nodes.append(NodeView("bad", pool="a", record=NodeRecord(NodeState.QUARANTINED)))
    metrics.set(Fleet.LEADER, 1.0)
    for number in count():
        metrics.show(nodes, [BreakerStatus("pool/a", 3, 1, False, 2)], clock())
        for metric, labels in _COUNTED.items():
            metrics.count(metric, **labels)
        for metric in (Fleet.VERDICT_TO_CORDON, Fleet.CORDON_TO_DELETION, Fleet.QUARANTINE, Fleet.RECONCILE):
            metrics.observe(metric, 0.02 * 4 ** (number % 7))  # in several buckets
        metrics.observe(Fleet.PREFLIGHT, 40.0, outcome="pass")
        metrics.show_runs({RUN: Run(3, 2, 40.0)})
        metrics.error("watch")
        metrics.request("GET", "/api/v1/nodes", 200)
        yield


_COUNTED: dict[m.Metric, dict[str, str]] = {
    Fleet.CORDONS: {"source": "preflight", "reason": "nccl"},
    Fleet.UNCORDONS: {"source": "revalidation"},
    Fleet.FALSE_CORDONS: {"source": "report"},
    Fleet.BLOCKED: {},
    Fleet.REPAIRS: {"state": "repair"},
    Fleet.REPORTS: {"disposition": "confirmed"},
    Fleet.REVALIDATIONS: {"suite": "node"},
    Fleet.REVALIDATION_RESULTS: {"outcome": "passed"},
    Fleet.POD_DELETIONS: {"outcome": "deleted"},
    Fleet.GPU_SECONDS_LOST: {"source": "preflight"},
    Fleet.WEBHOOKS: {"outcome": "delivered"},
}


class _Others:
    """What the chart's rules record of dcgm-exporter's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)  # type: ignore[arg-type]

    def collect(self) -> Iterator[object]:
        from prometheus_client.core import GaugeMetricFamily

        values = {"node": "node-1", "gpu": "0", "namespace": "team-a", "pod": "tiny-stage1-0", "run": RUN}
        for metric in RECORDED:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            family.add_metric([values[name] for name in metric.labels], 0.8)
            yield family
