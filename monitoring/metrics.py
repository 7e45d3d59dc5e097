"""The list of all metric names: the exporter of a run and the controller take their names from here.

Names follow Prometheus practice: one prefix, base units in the name (`_seconds`, `_bytes`, `_joules`), `_total` for
counters. Labels never contain a step, a path or a measured value: a run has tens of series, not thousands.
Label `run` identifies a run: two runs of one recipe in two places have different labels, and so have two recipes in one place.
It is the recipe's name and the beginning of the run's key; `run_info` gives the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "lehr_"
RUN, RUN_STAGE = ("run",), ("run", "stage")
STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
FLEET_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
QUARANTINE_BUCKETS = (600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0, 172800.0, 604800.0)
CHECKPOINT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True)
class Metric:
    """One metric as it appears on /metrics: `name` is complete, counters end in `_total`. `of` is the training loop's metric
    (`lehr.runtime.metrics`) whose last value this gauge has, if any."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = RUN_STAGE
    buckets: tuple[float, ...] = ()
    of: str = ""


def _metric(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    text: str,
    labels: tuple[str, ...] = RUN_STAGE,
    buckets: tuple[float, ...] = (),
) -> Metric:
    return Metric(PREFIX + name, kind, text, labels, buckets)


def _last(name: str, of: str, text: str) -> Metric:
    """A gauge with the training loop's metric `of` at the last step."""
    return Metric(PREFIX + name, "gauge", text, RUN_STAGE, of=of)


RUN_INFO = _metric(
    "run_info", "gauge", "1: the recipe's name and the last part of the run's place, for joins.", ("run", "name", "place")
)
TRAIN_INFO = _metric(
    "train_info", "gauge", "1 for each stage that trains: what it is, for joins.", (*RUN_STAGE, "model", "recipe")
)
TRAIN_ACTIVE = _metric("train_active", "gauge", "1 while the stage takes steps, else 0.")
TRAIN_HEARTBEAT = _metric("train_heartbeat_timestamp_seconds", "gauge", "Unix time of the last sign of life.")
TRAIN_STEPS = _metric("train_steps_total", "counter", "Optimiser steps taken by this process, skipped ones included.")
TRAIN_STEPS_PLANNED = _metric("train_steps_planned", "gauge", "Optimiser steps that the stage has in all.")
TRAIN_STEP = _metric("train_step", "gauge", "Step that the stage has reached, over all attempts.")
TRAIN_STEPS_SKIPPED = _metric(
    "train_steps_skipped_total", "counter", "Steps whose update was not applied.", (*RUN_STAGE, "reason")
)
TRAIN_TOKENS = _metric("train_tokens_total", "counter", "Tokens trained on by this process.")
TRAIN_FLOPS = _metric("train_flops_total", "counter", "Floating point operations of the model, forward and backward.")
TRAIN_LOSS = _last("train_loss", "loss", "Loss of the last step, nats per token in pretraining.")
TRAIN_GRAD_NORM = _last("train_grad_norm", "grad_norm", "Global gradient norm before clipping, last step.")
TRAIN_LEARNING_RATE = _last("train_learning_rate", "learning_rate", "Learning rate of the last step.")
TRAIN_REWARD = _last("train_reward", "reward", "Mean reward of the last step's samples.")
TRAIN_KL = _last("train_kl_nats", "kl", "Divergence from the reference model, last step.")
TRAIN_MARGIN = _last("train_preference_margin", "margin", "Mean reward of chosen minus rejected answers, last step.")
TRAIN_METRIC = _metric(
    "train_metric", "gauge", "Any other metric of the last step that the report draws, by name.", (*RUN_STAGE, "metric")
)
TRAIN_DEV_METRIC = _metric(
    "train_dev_metric",
    "gauge",
    "Last measurement on development data while training, by name; behind an @ stands the source that it is of.",
    (*RUN_STAGE, "metric"),
)
TRAIN_DATA_WAIT = _metric(
    "train_data_wait_seconds_total", "counter", "Time for which steps waited for their batches, mean over ranks."
)
TRAIN_STEP_SECONDS = _metric("train_step_seconds", "histogram", "Wall time of a step.", RUN_STAGE, STEP_BUCKETS)
CHECKPOINT_SECONDS = _metric(
    "checkpoint_blocking_seconds",
    "histogram",
    "Time for which writing a checkpoint held up training.",
    RUN_STAGE,
    CHECKPOINT_BUCKETS,
)
CHECKPOINT_TIMESTAMP = _metric("checkpoint_timestamp_seconds", "gauge", "Unix time of the last complete checkpoint.")
CHECKPOINT_BYTES = _metric("checkpoint_size_bytes", "gauge", "Size of the last complete checkpoint.")
ENERGY_JOULES = _metric("energy_joules_total", "counter", "IT energy drawn while the stage ran, before PUE.")
ENERGY_SOURCE = _metric("energy_source_info", "gauge", "1 for the source in use: nvml, rapl or estimated.", ("run", "source"))
MEMORY_RESIDENT = _metric(
    "memory_resident_bytes", "gauge", "Resident memory of the run's processes on this machine; shared pages in each.", RUN
)
MEMORY_PEAK = _metric(
    "memory_resident_peak_bytes", "gauge", "Sum of the largest resident sizes of those processes so far.", RUN
)
GPU_MEMORY = _metric("gpu_memory_used_bytes", "gauge", "Memory in use on a GPU of this process, by whomever.", ("run", "gpu"))
GPU_MEMORY_SIZE = _metric("gpu_memory_size_bytes", "gauge", "Memory that the GPU has.", ("run", "gpu"))
EVAL_SCORE = _metric("eval_score", "gauge", "Score of a finished stage.", (*RUN_STAGE, "task", "metric", "split"))
EVAL_SCORE_STDERR = _metric(
    "eval_score_stderr", "gauge", "Standard error of the score.", (*RUN_STAGE, "task", "metric", "split")
)
STAGE_SECONDS = _metric("stage_seconds", "gauge", "Wall time of a finished stage.")
STAGE_REUSED = _metric("stage_reused", "gauge", "1 if the finished stage was found again, 0 if it was made.")
STAGES_FINISHED = _metric("stages_finished_total", "counter", "Stages finished by this process.", ("run", "outcome"))

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class Fleet:
    """Metrics of the fleet's controller. Only gauges have a node's name as label, and only while that node is not healthy:
    names on counters would add series for ever."""

    NODES = _metric("fleet_nodes", "gauge", "Managed nodes by state; held: cordoned by a person.", ("pool", "state"))
    NODE_STATE = _metric("fleet_node_state", "gauge", "1 for each node that is not healthy, in its state.", ("node", "state"))
    CORDONS = _metric("fleet_cordons_total", "counter", "Nodes cordoned by the controller.", ("source", "reason"))
    UNCORDONS = _metric("fleet_uncordons_total", "counter", "Nodes returned to service, by whom.", ("source",))
    FALSE_CORDONS = _metric("fleet_false_cordons_total", "counter", "Nodes that proved good after a quarantine.", ("source",))
    BLOCKED = _metric("fleet_cordons_blocked_total", "counter", "Cordons refused by an open breaker or a person's word.", ())
    REPAIRS = _metric("fleet_repairs_total", "counter", "Nodes flagged for repair.", ("state",))
    REPORTS = _metric("fleet_reports_total", "counter", "Reports of users that were settled.", ("disposition",))
    REVALIDATIONS = _metric("fleet_revalidations_total", "counter", "Test Jobs started on nodes.", ("suite",))
    REVALIDATION_RESULTS = _metric("fleet_revalidation_results_total", "counter", "Test Jobs that ended.", ("outcome",))
    POD_DELETIONS = _metric("fleet_pod_deletions_total", "counter", "Pods taken off bad nodes.", ("outcome",))
    VERDICT_TO_CORDON = _metric(
        "fleet_verdict_to_cordon_seconds", "histogram", "From a verdict to the cordon that it caused.", (), FLEET_BUCKETS
    )
    CORDON_TO_DELETION = _metric(
        "fleet_cordon_to_deletion_seconds", "histogram", "From a cordon to the deletion of its pod.", (), FLEET_BUCKETS
    )
    QUARANTINE = _metric("fleet_quarantine_seconds", "histogram", "Time that returned nodes were away.", (), QUARANTINE_BUCKETS)
    GPU_HOURS_LOST = _metric(
        "fleet_gpu_hours_lost_total", "counter", "GPU-hours of work undone by faults of nodes.", ("source",)
    )
    BREAKER_OPEN = _metric("fleet_breaker_open", "gauge", "1 while this breaker refuses cordons.", ("breaker",))
    BREAKER_BUDGET = _metric("fleet_breaker_budget", "gauge", "Cordons that this breaker still allows.", ("breaker",))
    LEADER = _metric("fleet_leader", "gauge", "1 while this replica acts.", ())
    RECONCILE = _metric("fleet_reconcile_seconds", "histogram", "Time of one round of decisions.", (), FLEET_BUCKETS)
    RECONCILE_TIME = _metric("fleet_reconcile_timestamp_seconds", "gauge", "Unix time of the last round.", ())
    ERRORS = _metric("fleet_errors_total", "counter", "Requests and watches that failed, by kind.", ("reason",))
    API_REQUESTS = _metric("fleet_api_requests_total", "counter", "Answered API requests.", ("verb", "resource", "code"))
    WEBHOOKS = _metric("fleet_webhook_total", "counter", "Calls of the webhook.", ("outcome",))


FLEET_METRICS: tuple[Metric, ...] = tuple(value for value in vars(Fleet).values() if isinstance(value, Metric))
