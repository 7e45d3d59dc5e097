"""An incident as the person on call sees it: a real Prometheus with the chart's rules, a real Alertmanager."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.incident import Scene, eventually, fetch, staged

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
DAY = 86_400
PAGED = {"LehrStalled", "LehrBreakerOpen", "LehrStoreDown"}
# While the store fails for all runs, and a breaker is open.
QUIET = (
    ("LehrStalled", "run", "c"),
    ("LehrStoreErrors", "run", "b"),
    ("LehrQuarantineLong", "node", "n2"),
    ("LehrStraggler", "run", "b"),
)


def run(name: str) -> str:
    return f'namespace="t",run="{name}",stage="s"'


def healthy(scene: Scene) -> None:
    """Three runs that take steps and talk to a store that answers, a controller that leads, two nodes in service."""
    for name in "abc":
        scene.set(f"lehr_train_heartbeat_timestamp_seconds{{{run(name)}}}", time.time)
        scene.set(f"lehr_train_active{{{run(name)}}}", 1)
        scene.set(f"lehr_train_paused{{{run(name)}}}", 0)
        scene.set(f"lehr_train_step_seconds_sum{{{run(name)}}}", 10)
        scene.set(f"lehr_train_step_seconds_count{{{run(name)}}}", 10)
        scene.set(f"lehr_train_straggler_ratio{{{run(name)}}}", 1.02)
        scene.set(f'lehr_store_requests_total{{namespace="t",run="{name}",operation="get",outcome="ok"}}', time.time)
        scene.set(failures(name), 0)
    scene.set("lehr_fleet_leader", 1)
    scene.set("lehr_fleet_reconcile_timestamp_seconds", time.time)
    scene.set('lehr_fleet_breaker_open{breaker="pool/h"}', 0)
    scene.set('lehr_fleet_spare_nodes{pool="h"}', 2)
    for node in ("n1", "n2"):
        away(scene, node, None)


def failures(name: str) -> str:
    return f'lehr_store_requests_total{{namespace="t",run="{name}",operation="put",outcome="unreachable"}}'


def away(scene: Scene, node: str, seconds: float | None) -> None:
    """`node` is quarantined since so long, or in service."""
    series = f'lehr_fleet_node_state_timestamp_seconds{{node="{node}",state="quarantined"}}'
    if seconds is None:
        scene.values.pop(series, None)
    else:
        scene.set(series, time.time() - seconds)


def growing() -> Callable[[], float]:
    since = time.time()
    return lambda: 9 * (time.time() - since)


def test_a_fault_of_everybody_pages_once_and_everything_resolves(tmp_path: Path) -> None:
    with staged(tmp_path, healthy) as scene:
        eventually(lambda: _scraped(scene), "the rules have values")
        took = _one_run_and_one_node(scene)
        scene.set('lehr_fleet_breaker_open{breaker="pool/h"}', 1)
        away(scene, "n2", 2 * DAY)
        scene.set(f"lehr_train_straggler_ratio{{{run('b')}}}", 1.5)
        took.append(eventually(lambda: scene.got("pager", "LehrBreakerOpen", breaker="pool/h"), "the breaker is paged"))
        for name in "abc":
            scene.set(failures(name), growing())
        scene.set(f"lehr_train_heartbeat_timestamp_seconds{{{run('c')}}}", time.time() - 1000)
        took.append(eventually(lambda: scene.got("pager", "LehrStoreDown"), "the store is paged"))
        print("seconds from fault to receiver:", [round(seconds, 1) for seconds in took])
        for alert, label, value in QUIET:
            eventually(partial(scene.suppressed, alert, **{label: value}), f"{alert} {value} is there and kept quiet")
            assert not scene.got("pager", alert, **{label: value}) and not scene.got("tickets", alert, **{label: value})
        healthy(scene)
        scene.set('lehr_fleet_breaker_open{breaker="pool/h"}', 1)
        eventually(lambda: not any(scene.firing(alert) for alert, *_ in QUIET), "what was kept quiet is over")
        scene.set('lehr_fleet_breaker_open{breaker="pool/h"}', 0)
        for alert in ("LehrBreakerOpen", "LehrStoreDown"):
            eventually(partial(scene.got, "pager", alert, "resolved"), f"{alert} is resolved")
            assert len([said for *_, said in scene.told_of(alert) if said == "firing"]) == 1
        assert {seen["alertname"] for _, seen, _ in scene.heard} == {*PAGED, "LehrQuarantineLong"}
        assert {seen["alertname"] for who, seen, _ in scene.heard if who == "pager"} == PAGED


def _one_run_and_one_node(scene: Scene) -> list[float]:
    """What concerns one run and one node alone: told each, and told when it is over."""
    scene.set(f"lehr_train_heartbeat_timestamp_seconds{{{run('a')}}}", time.time() - 1000)
    away(scene, "n1", 2 * DAY)
    took = [
        eventually(lambda: scene.got("pager", "LehrStalled", run="a", cluster="c"), "the stalled run is paged"),
        eventually(lambda: scene.got("tickets", "LehrQuarantineLong", node="n1"), "the node is a ticket"),
    ]
    healthy(scene)
    eventually(lambda: scene.got("pager", "LehrStalled", "resolved", run="a"), "the run goes on")
    eventually(lambda: scene.got("tickets", "LehrQuarantineLong", "resolved", node="n1"), "the node returns")
    return took


def _scraped(scene: Scene) -> bool:
    found = fetch(
        f"{scene.prometheus}/api/v1/query?query=stage:lehr_train_data_wait:ratio_rate10m%20or%20run:lehr_store_errors:ratio_rate5m"
    )
    return len(found["data"]["result"]) == 3
