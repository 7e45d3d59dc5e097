"""Queries: what they are as PromQL, what they refuse, and what they are on samples whose results can be counted by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from lehr.monitoring.metrics import Fleet
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.evaluate import Moment, evaluate
from lehr.monitoring.panels.forms import age, counted, increase, now, over, rate, ratio, total
from lehr.monitoring.panels.history import History
from lehr.monitoring.panels.panel import Annotation, Panel, Series, Variable
from lehr.monitoring.panels.query import Binary, Last, Quantile, Query
from lehr.runtime.errors import Bug

OF_THOSE = (
    'sum by (run, ended) (increase(lehr_attempts_total{run=~"$run"}[1h])) / on (run) group_left () '
    'sum by (run) (last_over_time(lehr_attempts_total{run=~"$run"}[$__range]))'
)
LOSS = {"run": "a", "stage": "stage1"}


def values(query: Query, samples: History, moment: Moment) -> dict[tuple[str, ...], float]:
    return {tuple(one.labels[name] for name in query.labels): one.value for one in evaluate(query, samples, moment)}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (now(m.TRAIN_LOSS), 'max by (run, stage) (lehr_train_loss{run=~"$run"})'),
        (Last(m.TRAIN_DEV_METRIC, {"metric": ("a", "b")}), 'lehr_train_dev_metric{run=~"$run",metric=~"a|b"}'),
        (total(Last(Fleet.NODES, {"state": "held"})), 'sum(lehr_fleet_nodes{state="held"})'),
        (rate(m.TRAIN_TOKENS, "run"), 'sum by (run) (rate(lehr_train_tokens_total{run=~"$run"}[$__rate_interval]))'),
        (
            Quantile(0.99, m.TRAIN_STEP_SECONDS, ("run",)),
            'histogram_quantile(0.99, sum by (le, run) (rate(lehr_train_step_seconds_bucket{run=~"$run"}[$__rate_interval])))',
        ),
        (
            ratio(increase(m.ATTEMPTS, "run", "ended", window="1h"), counted(m.ATTEMPTS, "run")),
            OF_THOSE,
        ),
        (over(age(m.TRAIN_HEARTBEAT), 5), f'(time() - max by (run, stage) ({m.TRAIN_HEARTBEAT.name}{{run=~"$run"}})) > 5'),
    ],
)  # fmt: skip
def test_promql(query: Query, text: str) -> None:
    assert query.promql(["run", "node"]) == text


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Last(m.TRAIN_TOKENS), "says nothing without its growth"),
        (lambda: rate(m.TRAIN_LOSS), "rate of lehr_train_loss"),
        (lambda: Last(m.TRAIN_LOSS, {"task": "x"}), "has no label task"),
        (lambda: rate(m.ATTEMPTS, where={"ended": 'x"}'}), "escaped"),
        (lambda: rate(m.TRAIN_TOKENS, "node"), "no label node"),
        (lambda: Quantile(0.5, m.TRAIN_LOSS), "is a gauge"),
        (lambda: Binary("/", Last(m.TRAIN_LOSS), 2.0), "aggregate both sides"),
        (lambda: ratio(total(Last(m.TRAIN_LOSS)), now(m.TRAIN_LOSS)), "left side has no label"),
        (lambda: age(m.TRAIN_LOSS), "no time"),
        (lambda: Series(Last(m.TRAIN_LOSS)), "must aggregate"),
        (lambda: Series(now(m.TRAIN_LOSS), "{node}"), "does not have"),
        (lambda: Variable("node", m.RUN_INFO, "Node"), "has no label node"),
        (lambda: Annotation("x", now(m.TRAIN_LOSS), "{task}"), "does not have"),
        (lambda: Panel("Loss", "a", "b", "", "", (Series(now(m.TRAIN_LOSS)),)), "remedy is empty"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(Bug, match=said):
        make()


def test_a_query_knows_all_metrics_that_it_needs() -> None:
    assert ratio(rate(m.TRAIN_FLOPS, "run", "stage"), now(m.TRAIN_FLOPS_PEAK)).metrics == {m.TRAIN_FLOPS, m.TRAIN_FLOPS_PEAK}


def test_a_gauge_is_what_it_was_last_until_it_goes() -> None:
    samples, line = History(), 'lehr_train_loss{{run="a",stage="stage1"}} {}\n'
    for at, value in ((0.0, 3.0), (15.0, 2.5)):
        samples.scrape(line.format(value), at, {"instance": "one"})
    samples.scrape(line.format(2.0), 16.0, {"instance": "two"})  # the run goes on in another pod
    assert len(evaluate(Last(m.TRAIN_LOSS), samples, Moment(20.0))) == 2
    assert values(now(m.TRAIN_LOSS), samples, Moment(20.0)) == {("a", "stage1"): 2.5}
    samples.scrape("", 30.0, {"instance": "one"})
    assert values(now(m.TRAIN_LOSS), samples, Moment(30.0)) == {("a", "stage1"): 2.0}
    assert values(now(m.TRAIN_LOSS), samples, Moment(29.0)) == {("a", "stage1"): 2.5}
    assert values(now(m.TRAIN_LOSS), samples, Moment(317.0)) == {}  # looked back for five minutes


def test_the_boards_variables_choose() -> None:
    samples = History()
    for run in ("a", "b"):
        samples.add("lehr_train_loss", {"run": run, "stage": "stage1"}, 0.0, 1.0)
    assert set(values(now(m.TRAIN_LOSS), samples, Moment(1.0, scope={"run": "b|c", "node": "x", "stage": ""}))) == {
        ("b", "stage1")
    }
    assert samples.values("run") == ["a", "b"]


def test_a_counter_that_began_anew_has_grown_from_nought() -> None:
    samples = History()
    for at, value in enumerate((100.0, 160.0, 20.0, 80.0, 140.0)):
        samples.add("lehr_train_tokens_total", LOSS, 60.0 * at, value)
    grown = increase(m.TRAIN_TOKENS, "run", window="4m")  # from -1 s to 239 s: only half an interval is reached beyond a sample
    assert values(grown, samples, Moment(239.0))[("a",)] == pytest.approx((60 + 20 + 60) * (180 + 1 + 59) / 180)
    assert values(counted(m.TRAIN_TOKENS, "run"), samples, Moment(250.0)) == {("a",): 140.0}


def test_a_share_of_nothing_is_no_number_and_history_is_bounded() -> None:
    samples = History(keep_seconds=60)
    for at in range(20):
        samples.add("lehr_train_loss", LOSS, 15.0 * at, 0.0)
    [value] = values(ratio(now(m.TRAIN_LOSS), now(m.TRAIN_LOSS)), samples, Moment(290.0)).values()
    assert math.isnan(value)
    [(_, points)] = samples.named("lehr_train_loss")
    assert len(points) == 5
