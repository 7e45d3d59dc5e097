"""Boards: every panel has data from what is really exported, and loses it when a metric is renamed or dropped."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter

import pytest

from lehr.cli.main import lehr
from lehr.monitoring.metrics import FLEET_METRICS, LABELS, METRICS, RECORDED, SERVING_METRICS, Metric
from lehr.monitoring.metrics.cardinality import of_a_fleet
from lehr.monitoring.metrics.run import TRAIN_METRIC
from lehr.monitoring.panels.boards import BOARDS
from lehr.monitoring.panels.evaluate import Moment, evaluate
from lehr.monitoring.panels.history import History
from lehr.monitoring.panels.panel import Panel, Row, Series
from lehr.monitoring.panels.query import Query
from lehr.monitoring.panels.reference import used
from lehr.monitoring.pod_exporter import COUNTED, SHOWN
from tests.graph.source import ROOT
from tests.monitoring.panels.samples import BEGAN, RUN, SECONDS_LONG, Recording, without

EVERY = (*METRICS, *FLEET_METRICS, *RECORDED, *SERVING_METRICS)
# Declared and without a panel of their own: objectives do not report these at steps.
SCORES = {
    "a score: all of a stage's are drawn under lehr_train_dev_metric and lehr_eval_score": (
        "bits_per_byte", "accuracy", "acc", "acc_per_char", "acc_per_byte", "acc_per_token", "acc_pmi", "answer_bits_per_byte",
        "bits_per_byte_over_sources", "bits_per_byte_over_domains", "perplexity", "perplexity_over_sources",
        "perplexity_over_domains", "exact_match", "strict", "asked_format", "right", "sampled_accuracy", "sampled_exact_match",
        "logprob_margin",
    ),
    "a score of a task of one's own: the same": (
        "answer_nats", "code_tests", "f1", "greedy_match", "instructions", "json_object", "json_schema", "last_integer",
        "last_number", "math_equal", "mentions", "pass", "regex", "tool_call",
    ),
    "a score of answers that a model judged: the same": (
        "judge_rating", "judge_win_rate", "judge_unreadable", "classified_under", "classified_probability", "classified_max",
    ),
}  # fmt: skip
END = Moment(BEGAN + SECONDS_LONG + 4, 60.0, 3600.0, {"run": RUN, "stage": ".*", "cluster": ".*"})
QUERIES = {
    f"{board.uid} / {panel.title} / {series.legend}": series.query
    for board in BOARDS
    for panel in board.panels
    for series in panel.series
} | {f"{board.uid} / mark {mark.name}": mark.query for board in BOARDS for mark in board.annotations}


def answers(query: Query, history: History) -> bool:
    return any(math.isfinite(one.value) for one in evaluate(query, history, END))


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_an_answer(name: str, recording: Recording) -> None:
    assert answers(QUERIES[name], recording.history)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_a_metric_that_is_renamed_or_dropped_is_missed(metric: Metric, recording: Recording) -> None:
    """A mutant of what is exported for each metric: some panel is then empty. In code a rename cannot come to pass, for panels
    hold the metrics themselves."""
    needing = [query for query in QUERIES.values() if metric in query.metrics]
    assert needing or any(metric in used(board) for board in BOARDS), f"{metric.name} is on no board"
    mutant = without(recording.history, metric.name)
    assert any(not answers(query, mutant) for query in needing)
    renamed = without(recording.history, metric.name, instead=f"{metric.name}_new")
    assert any(not answers(query, renamed) for query in needing)


def test_what_the_report_draws_has_a_panel_or_a_reason() -> None:
    """Names under `lehr_train_metric`: the exporter sets one for each that an objective declares, and a panel asks by name."""
    exported = _declared() - {metric.of for metric in METRICS if metric.of}
    asked = {
        name
        for query in QUERIES.values()
        if TRAIN_METRIC in query.metrics
        for name in re.findall(TRAIN_METRIC.name + r'\{[^}]*metric="(\w+)"', query.promql())
    }
    assert {"kl_coefficient", "posterior_kl", "reward_accuracy"} <= exported
    assert not asked - exported, "a panel asks for what nothing declares"
    assert exported - asked == {name for names in SCORES.values() for name in names}, (
        "a name has neither a panel nor a reason, or has both"
    )


def _declared() -> set[str]:
    """The names with a panel that all modules of Lehr declare, asked in a process of its own: tests declare some too."""
    found = (path for path in (ROOT / "lehr").rglob("*.py") if re.search(r"\bdeclare\(Metric\(", path.read_text("utf-8")))
    modules = ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found)
    program = (
        f"import {modules}\nfrom lehr.runtime.metrics import declared\nprint(*(one.name for one in declared() if one.panel))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_each_board_answers_its_question_first_and_its_names_are_its_own() -> None:
    assert len({board.uid for board in BOARDS}) == len({board.title for board in BOARDS}) == len(BOARDS) == 8
    for board in BOARDS:
        assert board.question.endswith("?") and all(panel.kind == "stat" for panel in board.rows[0].panels)
        titles = [panel.title for row in board.rows[1:] for panel in row.panels]
        assert len(set(titles)) == len(titles), board.uid


def test_every_variable_limits_a_panel() -> None:
    for board in BOARDS:
        asked = {name for panel in board.panels for metric in panel.metrics for name in metric.labels}
        assert {variable.label for variable in board.variables} <= asked, board.uid


def test_every_label_is_explained_and_bounded() -> None:
    assert {label for metric in EVERY for label in metric.labels} == LABELS.keys()


def test_rows_are_filled_to_the_edge_and_nothing_overlaps() -> None:
    series = (Series(next(iter(QUERIES.values()))),)
    panels = [
        Panel("a", "a", "b", "c", "", series, width=width, height=height) for width, height in ((8, 4), (8, 6), (8, 4), (5, 3))
    ]
    assert [vars(place) for _, place in Row("x", tuple(panels)).places(10)] == [
        {"x": 0, "y": 10, "width": 8},
        {"x": 8, "y": 10, "width": 8},
        {"x": 16, "y": 10, "width": 8},
        {"x": 0, "y": 16, "width": 24},
    ]


def test_commands_and_runbooks_that_panels_name_exist() -> None:
    texts = " ".join(panel.description for board in BOARDS for panel in board.panels)
    commands = set(re.findall(r"`lehr ([a-z]+)", texts))
    assert commands and commands <= set(lehr.commands), commands - set(lehr.commands)
    runbooks = {*re.findall(r"\bLehr[A-Z]\w+", texts), *(name for board in BOARDS for name in board.runbooks)}
    assert not {name for name in runbooks if not (ROOT / "docs" / "runbooks" / f"{name}.md").is_file()}


def test_series_stay_few() -> None:
    """2,048 nodes on which 200 runs train or score, all series of a node's own counted."""
    found = of_a_fleet((*SHOWN, *COUNTED))
    assert set(found) == {"runs", "other pods of runs", "controller", "recording rules"} and min(found.values()) > 0
    assert sum(found.values()) < 100_000, found


def test_bounds_are_at_least_what_is_exported(recording: Recording) -> None:
    """Of the run and the fleet of these samples, stage by stage."""
    for metric in EVERY:
        series: Counter[str] = Counter()
        for suffix in ("", "_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",):
            for labels, _ in recording.history.named(metric.name + suffix):
                series[labels.get("stage", "")] += 1
        assert series and max(series.values()) <= metric.series, (metric.name, series)
