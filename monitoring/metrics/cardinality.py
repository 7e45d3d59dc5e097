"""How many series a large fleet has in Prometheus, from the bounds of the labels."""

from __future__ import annotations

from collections.abc import Iterable

from lehr.monitoring.metrics.fleet import FLEET_METRICS
from lehr.monitoring.metrics.metric import Metric
from lehr.monitoring.metrics.recorded import RECORDED
from lehr.monitoring.metrics.run import METRICS

NODES, RUNS = 2048, 200
# Metrics of one kind of stage alone, by the beginnings of their names: a pod works on one stage.
_ONLY = {
    "training": ("lehr_train_", "lehr_checkpoint_"),
    "scoring": ("lehr_eval_",),
    "documents": ("lehr_document",),
}
# Ranks beside rank 0 write shards of saves: put, upload_part, head and other requests, that end well or fail.
_OF_OTHER_PODS = {"lehr_store_requests_total": 8, "lehr_store_retries_total": 4, "lehr_attempts_total": 0, "lehr_document": 0}


def of_a_stage(kind: str) -> int:
    """Series of the pod of rank 0 of a stage of that kind: training, scoring or documents."""
    others = tuple(start for name, starts in _ONLY.items() if name != kind for start in starts)
    return sum(metric.series for metric in METRICS if not metric.name.startswith(others))


def of_another_pod(metrics: Iterable[Metric]) -> int:
    """Series of a pod without rank 0 that exports `metrics`."""
    return sum(next((n for start, n in _OF_OTHER_PODS.items() if m.name.startswith(start)), m.series) for m in metrics)


def of_a_fleet(exported_by_other_pods: Iterable[Metric]) -> dict[str, int]:
    """Series by where they come from: NODES nodes with a pod each, RUNS runs that are each at the stage with the most."""
    return {
        "runs": RUNS * max(map(of_a_stage, _ONLY)),
        "other pods of runs": (NODES - RUNS) * of_another_pod(exported_by_other_pods),
        "controller": sum(metric.series for metric in FLEET_METRICS),
        "recording rules": sum(metric.series for metric in RECORDED),
    }
