"""The metrics of the fleet's controller."""

from __future__ import annotations

from lehr.monitoring.metrics.metric import PREFIX, Kind, Metric

FLEET_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
QUARANTINE_BUCKETS = (600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0, 172800.0, 604800.0)
PREFLIGHT_BUCKETS = (5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0)
RUNS_SHOWN = 256  # labels of pods are whatever their authors write, so only so many become series


def _metric(
    name: str, kind: Kind, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = (), bound: int = 0
) -> Metric:
    return Metric(PREFIX + name, kind, text, labels, buckets, bound=bound)


class Fleet:
    """Metrics of the fleet's controller. Only gauges have a node's name as label, and only while that node is not healthy:
    names on counters would add series for ever."""

    NODES = _metric("fleet_nodes", "gauge", "Managed nodes by state; held: cordoned by a person.", ("pool", "state"))
    NODE_STATE = _metric(
        "fleet_node_state", "gauge", "1 for each node that is not healthy, in its state.", ("node", "state"), bound=2048
    )
    NODE_SINCE = _metric(
        "fleet_node_state_timestamp_seconds",
        "gauge",
        "Unix time since which a node that is not healthy is in its state.",
        ("node", "state"),
        bound=2048,
    )
    SPARES = _metric("fleet_spare_nodes", "gauge", "Healthy nodes in service whose GPUs no pod of training holds.", ("pool",))
    PREFLIGHT = _metric(
        "fleet_preflight_seconds",
        "histogram",
        "Time from a pod's first preflight container to its last one's end, by the verdict.",
        ("outcome",),
        PREFLIGHT_BUCKETS,
        bound=5,
    )
    RUN_PREFLIGHT = _metric(
        "fleet_run_preflight_seconds",
        "gauge",
        "Time that preflights of a run's pods took, of those that the API server still has.",
        ("run",),
        bound=RUNS_SHOWN,
    )
    RUN_PODS = _metric("fleet_run_pods", "gauge", "Pods of a run that serve metrics now.", ("run",), bound=RUNS_SHOWN)
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
    GPU_SECONDS_LOST = _metric(
        "fleet_gpu_seconds_lost_total", "counter", "Time of GPUs whose work was undone by faults of nodes.", ("source",)
    )
    BREAKER_OPEN = _metric("fleet_breaker_open", "gauge", "1 while this breaker refuses cordons.", ("breaker",))
    BREAKER_BUDGET = _metric("fleet_breaker_budget", "gauge", "Cordons that this breaker still allows.", ("breaker",))
    LEADER = _metric("fleet_leader", "gauge", "1 while this replica acts.", ())
    RECONCILE = _metric("fleet_reconcile_seconds", "histogram", "Time of one round of decisions.", (), FLEET_BUCKETS)
    RECONCILE_TIME = _metric("fleet_reconcile_timestamp_seconds", "gauge", "Unix time of the last round.", ())
    ERRORS = _metric("fleet_errors_total", "counter", "Requests and watches that failed, by kind.", ("reason",))
    API_REQUESTS = _metric(
        "fleet_api_requests_total", "counter", "Answered API requests.", ("verb", "resource", "code"), bound=256
    )
    WEBHOOKS = _metric("fleet_webhook_total", "counter", "Calls of the webhook.", ("outcome",))


FLEET_METRICS: tuple[Metric, ...] = tuple(value for value in vars(Fleet).values() if isinstance(value, Metric))
