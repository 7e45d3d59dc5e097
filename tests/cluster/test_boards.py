"""The boards on a real Prometheus: over backfilled samples of the real exporters, and scraping a real run."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator

import pytest

from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.evaluate import Moment, evaluate
from lehr.monitoring.panels.panel import Board
from lehr.monitoring.panels.query import Query
from tests.cluster.conftest import TRAINING, World, eventually
from tests.cluster.kubelet import Cluster, pods_path
from tests.cluster.objects import gated_pod
from tests.cluster.plane import HOST, free_port
from tests.cluster.prometheus import Labels, Prometheus, blocks, expanded, serving
from tests.cluster.provide import find
from tests.cluster.scenario import Scenario
from tests.cluster.test_life import PASS, Clock
from tests.cluster.test_life import start as begin
from tests.e2e import helpers
from tests.monitoring.panels.samples import BEGAN, SECONDS_LONG, Recording, record, unmarked

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
# Beside the scrapes: a sample on a window's left end counts in Prometheus 2 and not in 3.
MOMENTS = (BEGAN + 157.0, BEGAN + 331.0, BEGAN + SECONDS_LONG + 4.0)
# What this run and this fleet do not have, and why; GPUs, pods, a store and dcgm-exporter are in the metrics' own `needs`.
NO_RESTART, NO_ROLLBACK = "the run was not interrupted", "nothing spiked"
EMPTY: dict[tuple[str, str], str] = {
    ("lehr-training", "Least load of an expert / {stage}"): "a model without experts",
    ("lehr-training", "mark Restarts"): NO_RESTART,
    ("lehr-training", "mark Rollbacks"): NO_ROLLBACK,
    ("lehr-post-training", "mark Restarts"): NO_RESTART,
    ("lehr-post-training", "mark Rollbacks"): NO_ROLLBACK,
    (
        "lehr-post-training",
        "Answers without an end, tokens held by the clip / {stage}: clipped",
    ): "one update a roll-out clips nothing",
    ("lehr-post-training", "Sampler against trainer / {stage}"): "the trainer samples itself",
    ("lehr-goodput", "mark Restarts"): NO_RESTART,
    ("lehr-goodput", "Hours of preflights / {run}"): "the stand-in's pods are of no run",
    ("lehr-fleet", "Pods of runs / {run}"): "the stand-in's pods are of no run",
    ("lehr-fleet", "Time of a preflight / {outcome}: median"): "the stand-in for a kubelet tells no times of init containers",
    ("lehr-fleet", "Time of a preflight / {outcome}: 99 %"): "the stand-in for a kubelet tells no times of init containers",
    ("lehr-fleet", "Errors / {reason}"): "no request failed",
    ("lehr-fleet", "Out and back / flagged: {state}"): "the node came back",
    ("lehr-fleet", "Reports and deletions / report {disposition}"): "nobody reported a node",
    ("lehr-fleet", "Requests to the API server / webhook {outcome}"): "no webhook is set",
} | {
    (board.uid, name): reason
    for board in BOARDS
    for row in board.rows
    for panel in row.panels
    for name in (f"{panel.title} / {one.legend}" for one in panel.series)
    for uid, title, reason in (
        ("lehr-post-training", "PPO", "the run has no such stage"),
        ("lehr-post-training", "BRAIn", "the run has no such stage"),
        ("lehr-post-training", "Models of rewards", "the run has no such stage"),
        ("lehr-serving", row.title, "no server was scraped"),
    )
    if (board.uid, row.title) == (uid, title)
}
ALL = {"operation": ".*", "cluster": ".*", "run": ".*", "stage": ".*", "task": ".*", "split": ".*", "pool": ".*", "node": ".*"}


@pytest.fixture(scope="module")
def recording() -> Iterator[Recording]:
    with pytest.MonkeyPatch.context() as patch:
        made = record(patch)
        made.history = unmarked(made.history)
        yield made


@pytest.fixture(scope="module")
def prometheus(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with serving(folder, blocks(recording.openmetrics(), folder)) as made:
        yield made


def test_promtool_finds_nothing_to_mend_in_what_run_and_controller_serve(recording: Recording) -> None:
    """Types, units, help texts and names as Prometheus' conventions want them."""

    def checked(text: str) -> str:
        command = [str(find("promtool")), "check", "metrics"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    run, controller = recording.last["run:9400"], recording.last["controller:9404"]
    assert "lehr_train_tokens_total" in run and "lehr_fleet_" in controller
    assert (checked(run), checked(controller)) == ("", "")
    assert "_total" in checked(run.replace("lehr_train_tokens_total", "lehr_train_tokens"))


def asked(board: Board) -> dict[str, Query]:
    panels = {f"{panel.title} / {one.legend}": one.query for panel in board.panels for one in panel.series}
    return panels | {f"mark {mark.name}": mark.query for mark in board.annotations}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_every_query_has_data_and_is_evaluated_as_by_prometheus(
    board: Board, recording: Recording, prometheus: Prometheus
) -> None:
    for name, query in asked(board).items():
        text = expanded(query.promql(board.scope), "60s", "3600s", **ALL)
        for when in MOMENTS:
            theirs, ours = prometheus.at(text, when), _ours(query, recording, when)
            assert ours.keys() == theirs.keys(), (name, when)
            for labels, value in theirs.items():
                assert ours[labels] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), (name, when, labels)
        assert any(map(math.isfinite, theirs.values())), f"{name} is empty: {text}"


def _ours(query: Query, recording: Recording, when: float) -> dict[Labels, float]:
    found = evaluate(query, recording.history, Moment(when, 60.0, 3600.0))
    return {tuple(sorted(one.labels.items())): one.value for one in found}


def test_a_board_shows_the_chosen_run_alone(prometheus: Prometheus) -> None:
    query = BOARDS[0].panels[0].series[0].query.promql(BOARDS[0].scope)
    assert prometheus.at(expanded(query, "60s", "3600s", **ALL), MOMENTS[-1])
    assert not prometheus.at(expanded(query, "60s", "3600s", **{**ALL, "run": "another"}), MOMENTS[-1])


@pytest.fixture(scope="module")
def live(world: World, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float, float]]:
    """A Prometheus that has scraped a whole run of two ranks, and meanwhile a controller by which a node went and came back."""
    folder, ports, began = tmp_path_factory.mktemp("live"), (free_port(), free_port()), time.time()
    with serving(folder, folder / "data", [f"{HOST}:{port}" for port in ports], "200ms") as prometheus:
        # Long enough for Prometheus to see its counters grow.
        steps = ("--set", "posttraining.rlvr.steps=40")
        run = helpers.command("run", helpers.RECIPE, "--out", folder / "run", "--metrics-port", ports[0], *steps)
        with (folder / "run.log").open("wb") as log:
            process = subprocess.Popen(run, cwd=helpers.ROOT, env=helpers.environment(), stdout=log, stderr=log)
        try:
            _go_and_come_back(world, cluster, prometheus, ports[1])
            assert process.wait(480) == 0, (folder / "run.log").read_text(encoding="utf-8")[-3000:]
        finally:
            process.kill()
            process.wait()
        yield prometheus, began, time.time()


def _go_and_come_back(world: World, cluster: Cluster, prometheus: Prometheus, port: int) -> None:
    def scraped(query: str) -> None:
        eventually(lambda: prometheus.at(query, time.time()), f"Prometheus has {query}")

    clock = Clock()
    with Scenario(world, cluster, bad=(0,)) as fleet:
        bad = fleet.nodes[0]
        cluster.behaviours[bad].test = lambda: PASS
        life, _ = begin(fleet, clock)
        life.controller.metrics.serve(HOST, port)
        scraped("lehr_fleet_nodes")  # before anything happens: growth is seen from there
        world.admin.create(pods_path(TRAINING), gated_pod(TRAINING, fleet.execution(0), 0, fleet.pool, bad))
        scraped("lehr_fleet_node_state_timestamp_seconds")
        eventually(lambda: fleet.node(bad).cached.record and fleet.node(bad).cached.record.passes, "one test passed")  # type: ignore[union-attr]
        clock.ahead += 15 * 60 + 1
        eventually(lambda: fleet.node(bad).state == "healthy", "the node is back")
        scraped("lehr_fleet_quarantine_seconds_count > 0")
        time.sleep(2)  # and twice more


@pytest.mark.long
def test_a_real_run_and_a_real_controller_fill_the_boards(live: tuple[Prometheus, float, float]) -> None:
    """Both ways: what stands in EMPTY has a reason not to be there, and all the rest is there."""
    prometheus, began, ended = live
    empty = set()
    for board in BOARDS:
        for name, query in asked(board).items():
            text = expanded(query.promql(board.scope), "5s", f"{ended - began:.0f}s", **ALL)
            if not prometheus.ever(text, began, ended):
                empty.add((board.uid, name))
    needing = {
        (board.uid, name)
        for board in BOARDS
        for name, query in asked(board).items()
        if any(metric.needs for metric in query.metrics)
    }
    unexplained, filled = empty - needing - EMPTY.keys(), EMPTY.keys() - empty
    assert not unexplained and not filled, "\n".join([*map(str, sorted(unexplained)), "has data:", *map(str, sorted(filled))])
    assert needing <= empty, f"has data though it needs something: {needing - empty}"
