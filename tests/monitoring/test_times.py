"""Where time went, and how the spike score grows: each against an account of its own."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from lehr.monitoring.spikes import SpikeScore
from lehr.monitoring.time_ledger import TimeLedger
from lehr.train.stability import spike_score


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_charged_once() -> None:
    clock, spent = Clock(), Counter[tuple[str, str]]()
    ledger = TimeLedger(lambda stage, category, seconds: spent.update({(stage, category): seconds}), age=4.0, now=clock)  # type: ignore[dict-item]

    def after(seconds: float) -> TimeLedger:
        clock.now += seconds
        return ledger

    after(1.0).started("documents")
    after(5.0).progress("documents", {})
    after(2.0).look(stalled=False)  # a scrape: the stage works on
    after(1.0).finished("documents", reused=False)
    after(0.5).started("stage1")
    after(3.0).progress("stage1", {"step_seconds": 2.0})  # before it the model was loaded
    after(2.5).progress("stage1", {"step_seconds": 2.0, "checkpoint_seconds": 0.25})
    after(4.0).evaluated("stage1")
    after(2.0).progress("stage1", {"step_seconds": 2.0, "rework": 1.0})
    for _ in range(3):  # numbers that came late, all at once: six seconds of steps in a moment
        after(0.0).progress("stage1", {"step_seconds": 2.0})
    after(7.0).progress("stage1", {"step_seconds": 0.5})
    after(200.0).look(stalled=True)
    after(1.0).finished("stage1", reused=False)
    after(0.25).finished("stage2", reused=True)
    assert spent == {
        ("documents", "startup"): 5.0,
        ("documents", "productive"): 8.0,
        ("stage1", "startup"): 1.5,
        ("stage1", "productive"): 10.5,
        ("stage1", "checkpoint"): 1.25,
        ("stage1", "idle"): pytest.approx(0.75),
        ("stage1", "evaluation"): 4.0,
        ("stage1", "rework"): 2.0,
        ("stage1", "stalled"): 200.0,
        ("stage2", "startup"): 0.25,
    }
    assert sum(spent.values()) == pytest.approx(clock.now + 4.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_running_spike_score_is_the_reports(seed: int) -> None:
    source = random.Random(seed)
    level = 1e4 if seed == 3 else 3.0
    values = [level + source.gauss(0, 0.05) + (source.random() < 0.01) * source.choice([-4, 4]) for _ in range(3500)]
    values[40] = math.nan
    values[2000:2040] = [math.inf] * 40
    running = SpikeScore()
    shares = [running.add(value) for value in values]
    for count in (20, 41, 900, 1001, 2100, 3500):
        assert 100 * shares[count - 1] == pytest.approx(spike_score(values[:count]), abs=1e-9)


def test_one_spike_of_few_steps_is_no_share_yet() -> None:
    running, rng = SpikeScore(), random.Random(2)
    for step in range(88):
        running.add(50.0 if step == 70 else rng.gauss(0.0, 1.0))
    assert running.add(0.0) == 1 / 89 and not running.tells  # a panel would call 1 % bad
    for _ in range(5):
        running.add(math.nan)
    assert running.tells  # six of 94 are no accident
    calm = SpikeScore()
    told = [(calm.add(rng.gauss(0.0, 1.0)), calm.tells)[1] for _ in range(1000)]
    assert told == [False] * 999 + [True]


def test_a_constant_series_has_no_spikes() -> None:
    running = SpikeScore()
    assert {running.add(2.1) for _ in range(3000)} == {0.0}
    assert running.add(2.2) > 0
