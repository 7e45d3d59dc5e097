"""A log as samples: what the exporter of the same steps would have served."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from lehr.monitoring.exporter import About, PrometheusTracker
from lehr.monitoring.metrics import run as m
from lehr.monitoring.panels.evaluate import evaluate
from lehr.monitoring.panels.forms import increase, now, rate
from lehr.monitoring.panels.history import History
from lehr.monitoring.panels.query import Quantile
from lehr.monitoring.watch.asked import Asked
from lehr.monitoring.watch.log_tail import Moment, Row
from lehr.monitoring.watch.replay import IN_LOGS, Replay
from lehr.monitoring.watch.shown import Shown

SAME = {"grad_norm": 1.5, "embedding_norm": 2.0, "seconds": 0.2}
ROWS: list[Row] = [{"step": s, "tokens": 64.0 * s, "loss": 3 - s / 10, "learning_rate": 0.01 / s, **SAME} for s in range(1, 9)]
ROWS[4] |= {"skipped": 1.0}
DEV: Row = {"step": 8, "tokens": 512, "dev_bits_per_byte": 2.25, "dev_bits_per_byte@bible": 2.0}


def replayed() -> tuple[Replay, list[tuple[Asked, float, bool]]]:
    replay = Replay("x", "stage1")
    return replay, list(replay.add([*(Moment(row) for row in ROWS), Moment(DEV, 0)], 1000.0))


def test_the_last_values_are_those_that_the_exporter_serves_of_the_same_steps() -> None:
    tracker, time = PrometheusTracker(About("x")), 0.0
    tracker.stage_started("stage1", total_steps=8, params={})
    before = 0.0
    for row in ROWS:
        time += row["seconds"]
        known = {key: value for key, value in row.items() if key not in ("step", "tokens", "seconds")}
        step = {**known, "tokens": row["tokens"] - before, "step_seconds": row["seconds"]}
        before = row["tokens"]
        tracker.progress("stage1", int(row["step"]), 8, step)
    tracker.evaluated("stage1", 8, {key: value for key, value in DEV.items() if key.startswith("dev_")})
    served = History()
    served.scrape(generate_latest(tracker.registry).decode(), 1000.0)
    ours = replayed()[0].history
    compared = 0
    for metric in IN_LOGS:
        for suffix in ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",):
            theirs = {frozenset(labels.items()): points[-1][1] for labels, points in served.named(metric.name + suffix)}
            found = {frozenset(labels.items()): points[-1][1] for labels, points in ours.named(metric.name + suffix)}
            assert found == pytest.approx(theirs), metric.name + suffix
            compared += len(found)
    assert compared > 25


def test_a_log_without_a_clock_lies_on_the_time_that_its_steps_took() -> None:
    replay, asked = replayed()
    at = [moment.at for moment, _, _ in asked]
    assert at[0] == pytest.approx(1000 - 7 * 0.2) and at[-2] == pytest.approx(1000.0) and at[-1] == pytest.approx(1000.001)
    assert [step for _, step, _ in asked][:3] == [1, 2, 3] and replay.seconds == pytest.approx(1.6)
    later = list(replay.add([Moment({"step": 9, "seconds": 0.2})], 1010.0))  # it waited in between
    assert later[0][0].at == pytest.approx(1010.0)
    copied = Replay("x", "ramp")  # with the file times of an earlier stage
    assert next(iter(copied.add([Moment(ROWS[0]), Moment(ROWS[1])], 900.0, replay.at)))[0].at > replay.at


def test_rates_and_quantiles_of_a_log() -> None:
    replay, asked = replayed()
    moment = next(moment for moment, step, whole in reversed(asked) if whole)
    (speed,) = evaluate(rate(m.TRAIN_TOKENS, "run", "stage", window="1s"), replay.history, Asked(1000.0))
    assert speed.value == pytest.approx(64 / 0.2, rel=0.01)
    (middle,) = evaluate(Quantile(0.5, m.TRAIN_STEP_SECONDS, ("stage",)), replay.history, moment)
    assert 0.1 < middle.value <= 0.25
    (early,) = evaluate(rate(m.TRAIN_TOKENS, "run", window="10m"), replay.history, moment)
    assert early.value == pytest.approx(64 / 0.2, rel=0.01)  # not what it did in 1.6 s over ten minutes
    refused = evaluate(increase(m.TRAIN_STEPS_SKIPPED, "reason", window="1h"), replay.history, moment)
    assert {one.labels["reason"]: round(one.value) for one in refused} == {"spike": 1, "not_finite": 0}
    assert evaluate(now(m.TRAIN_LOSS), replay.history, asked[3][0])[0].value == ROWS[3]["loss"]


def test_memory_of_a_long_log_is_bounded() -> None:
    replay = Replay("x", "stage1")
    for look in range(3_000):  # two hours of looks, a step a second
        row = {"step": float(look), "tokens": 64.0 * look, "loss": 2.0, "seconds": 1.0}
        list(replay.add([Moment(row)], 1000.0 + 2.4 * look))
    assert max(len(points) for _, points in replay.history.named(m.TRAIN_LOSS.name)) <= 3600 / 2.4 + 2


def test_panels_that_need_a_living_process_are_not_taken_from_logs() -> None:
    shown = Shown()
    first = {number for row in shown.boards[0][1] for number in row.panels}
    logged = {shown.panels[panel].title for panel, _ in shown.logged if panel in first}
    assert {"Loss", "Gradient norm", "Learning rate", "On development data", "Tokens per second", "Time of a step"} <= logged
    assert not logged & {"Parts of a step", "Memory", "Power", "Sign of life", "Time left"}
    assert shown.gauges < shown.logged < set(shown.series)
    assert len({id(panel) for panel in shown.panels}) == len(shown.panels) > 50
