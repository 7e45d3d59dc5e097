"""The boards on a real Prometheus: over backfilled samples of the real exporters, and scraping a real run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.evaluate import Moment, evaluate
from lehr.monitoring.panels.panel import Board
from lehr.monitoring.panels.query import Query
from tests.cluster.prometheus import Labels, Prometheus, blocks, expanded, serving
from tests.monitoring.panels.samples import BEGAN, SECONDS_LONG, Recording, record, unmarked

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
# Beside the scrapes: a sample on a window's left end counts in Prometheus 2 and not in 3.
MOMENTS = (BEGAN + 157.0, BEGAN + 331.0, BEGAN + SECONDS_LONG + 4.0)
ALL = {"cluster": ".*", "run": ".*", "stage": ".*", "task": ".*", "split": ".*", "pool": ".*", "node": ".*"}


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
