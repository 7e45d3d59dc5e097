"""An hour of samples in little memory."""

from __future__ import annotations

import pytest

from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.evaluate import Moment, evaluate
from lehr.monitoring.panels.forms import increase, now, rate
from lehr.monitoring.panels.history import STALE, History
from lehr.monitoring.watch.scrape import APART_SECONDS, DENSE_SECONDS

NAME, LABELS = m.TRAIN_TOKENS.name, {"run": "x", "stage": "stage1"}


def sampled(seconds: int) -> History:
    history = History(3600.0)
    for at in range(0, seconds, 2):
        history.add(NAME, LABELS, float(at), 10.0 * at)
        if at % 60 == 0:
            history.thin(at - DENSE_SECONDS, APART_SECONDS)
    return history


def test_growth_and_rates_are_the_same_of_fewer_samples() -> None:
    history = sampled(7200)
    ((_, points),) = history.named(NAME)
    assert len(points) < 3600 / APART_SECONDS + DENSE_SECONDS + 10
    moment = Moment(7198.0, 15.0)
    assert evaluate(rate(m.TRAIN_TOKENS, "run"), history, moment)[0].value == pytest.approx(10, rel=0.01)
    assert evaluate(increase(m.TRAIN_TOKENS, "run", window="1h"), history, moment)[0].value == pytest.approx(36_000, rel=0.01)


def test_ends_are_kept_and_what_ended_long_ago_is_dropped() -> None:
    history = History(3600.0)
    for at in (0.0, 1.0, 2.0):
        history.add(m.TRAIN_LOSS.name, LABELS, at, 3.0)
    history.add(m.TRAIN_LOSS.name, LABELS, 3.0, STALE)
    history.thin(100.0, APART_SECONDS)
    ((_, points),) = history.named(m.TRAIN_LOSS.name)
    assert [at for at, _ in points] == [0.0, 3.0] and points[-1][1] is STALE
    assert evaluate(now(m.TRAIN_LOSS), history, Moment(100.0)) == []
    history.thin(3700.0, APART_SECONDS)
    assert list(history.named(m.TRAIN_LOSS.name)) == []
