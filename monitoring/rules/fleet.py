"""Alerts about what all runs stand on: the store, the controller, and the nodes that it looks after."""

from __future__ import annotations

from lehr.monitoring.metrics import Fleet
from lehr.monitoring.metrics import run as m
from lehr.monitoring.rules.recording import STORE_ERRORS
from lehr.monitoring.rules.rule import Alert, highest, increase

FAILING, DOWN, RUNS = 0.1, 0.5, 3
DECIDES_SECONDS = 600
AWAY = "quarantined|revalidating|repair|lemon"  # held: by a person, who knows; burn-in: as long as the policy asks for
AWAY_SECONDS = 86_400
FALSE_SHARE, CORDONS = 0.2, 5
SPARES = 1


def _store() -> list[Alert]:
    return [
        Alert(
            "LehrStoreErrors",
            "warning",
            f"{STORE_ERRORS} > {FAILING}",
            "The object store fails requests of {{ $labels.run }}: look at the store's own health and the network",
            "{{ $value | humanizePercentage }} of the requests of {{ $labels.run }} failed in five minutes, after retries.",
            keeps="5m",
        ),
        Alert(
            "LehrStoreDown",
            "critical",
            f"count({STORE_ERRORS} > {DOWN}) >= {RUNS}",
            "The object store fails for many runs at once: call whoever runs it; runs wait and go on by themselves",
            f"{{{{ $value }}}} runs see more than {DOWN * 100:.0f} % of their requests fail.",
            lasts="2m",
            keeps="10m",  # longer than the runs' own alerts, which would be sent when it ends
        ),
    ]


def _controller() -> list[Alert]:
    leader = f"max({Fleet.LEADER.name})"
    return [
        Alert(
            "LehrControllerDown",
            "critical",
            f"absent({Fleet.LEADER.name})",
            "No replica of Lehr's controller is seen, so nobody cordons bad nodes: look at its pods, then at the scrape",
            "Prometheus has no metric of the controller: it does not run, or is not scraped.",
        ),
        Alert(
            "LehrNoLeader",
            "critical",
            f"{leader} < 1",
            "No replica of Lehr's controller acts, so nobody cordons bad nodes: look at the Lease and the replicas' logs",
            "Replicas are up and none holds the Lease lehr-controller.",
        ),
        Alert(
            "LehrControllerDecidesNothing",
            "critical",
            f"time() - max({Fleet.RECONCILE_TIME.name}) > {DECIDES_SECONDS} and on () {leader} == 1",
            "Lehr's controller leads and decides nothing: read its log, then delete its pod",
            "The last round over all nodes was {{ $value | humanizeDuration }} ago; it is due every controller.resyncSeconds.",
        ),
    ]


def _nodes() -> list[Alert]:
    since = f'{Fleet.NODE_SINCE.name}{{state=~"{AWAY}"}}'
    false = increase(Fleet.FALSE_CORDONS, "7d", "source")
    cordons = increase(Fleet.CORDONS, "7d", "source")
    states = f'sum by (pool) (max by (pool, state) ({Fleet.NODES.name}{{state=~"{AWAY}|held|suspect"}}))'
    return [
        Alert(
            "LehrBreakerOpen",
            "critical",
            f"{highest(Fleet.BREAKER_OPEN, 'breaker')} == 1",
            "The breaker {{ $labels.breaker }} refuses cordons: see whether the nodes are bad or a check is, then close it",
            "Too many nodes were to be cordoned at once; until {{ $labels.breaker }} closes, suspects stay in service.",
            lasts="2m",
            keeps="5m",
        ),
        Alert(
            "LehrQuarantineLong",
            "warning",
            f"time() - max by (node, state) ({since}) > {AWAY_SECONDS}",
            "{{ $labels.node }} has been {{ $labels.state }} for a day: read why, repair or replace it, then say so",
            "{{ $labels.node }} has been {{ $labels.state }} for {{ $value | humanizeDuration }}.",
            lasts="10m",
        ),
        Alert(
            "LehrFalseCordons",
            "warning",
            f"{false} / ({cordons} >= {CORDONS}) > {FALSE_SHARE}",
            "Many nodes that {{ $labels.source }} had cordoned proved good: loosen that check, or only observe it",
            "{{ $value | humanizePercentage }} of the cordons by {{ $labels.source }} in a week were of good nodes.",
            lasts="30m",
        ),
        Alert(
            "LehrSparesLow",
            "warning",
            f"{highest(Fleet.SPARES, 'pool')} < {SPARES} and {states} > 0",
            "The pool {{ $labels.pool }} has no free node and some are away: repair one, or make room, before the next fault",
            "{{ $value }} healthy nodes of the pool {{ $labels.pool }} are free, while others are out of service.",
            lasts="30m",
        ),
        _exporter_missing(),
    ]


def _exporter_missing() -> Alert:
    """The controller sees the pods of a run, whether Prometheus does or not."""
    pods = highest(Fleet.RUN_PODS, "run")
    scraped = f"count by (run) (count by (run, pod) ({m.POD_INFO.name}))"
    return Alert(
        "LehrExporterMissing",
        "warning",
        f"{pods} - ({scraped} or 0 * {pods}) > 0",
        "Pods of {{ $labels.run }} are not scraped, so nothing else would be noticed of them: look at the targets and policies",
        "{{ $value }} running pods of {{ $labels.run }} have metrics that Prometheus does not get.",
        lasts="10m",
    )


def alerts() -> list[Alert]:
    """All of them."""
    return [*_store(), *_controller(), *_nodes()]
