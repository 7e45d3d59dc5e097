"""Schedules of the four reports against numbers worked out by hand, at the released models' own steps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lehr.config.schedule import BatchRamp, CosineSchedule, HybridSchedule, LinearSchedule, PowerSchedule
from lehr.optim.schedule import anneal_schedule, by_tokens, hybrid_constants
from lehr.train.batches import Batches

T = 1e12


def rate(schedule: Any, peak: float, tokens: float, total: float) -> float:
    return by_tokens(schedule, peak, int(tokens), int(total))


@pytest.mark.parametrize(
    ("peak", "step_tokens", "warmup_steps", "horizon", "step", "expected", "digits"),
    [
        (3e-4, 1024 * 4096, 2000, 5 * T, 928_646, 6.135e-5, 5e-9),  # 7B, where stage 1 was cut
        # 1B: its configuration's warm-up is 8.39B tokens, 4,000 of its steps; with the report's 2,000 it is 7.443e-5, and
        # its stage 2 starts at 7.4487e-5 (conflict olmo2_warmup of the facts).
        (4e-4, 512 * 4096, 4000, 5 * T, 1_907_359, 7.449e-5, 5e-9),
        (6e-4, 2048 * 4096, 2000, 6.5 * T, 721_901, 6.62e-5, 5e-8),  # 32B
        (9e-4, 2048 * 4096, 2000, 5 * T, 596_057, 9e-5, 5e-9),  # 13B, the whole cosine
    ],
)
def test_olmo2_cosine_cut_short(
    peak: float, step_tokens: int, warmup_steps: int, horizon: float, step: int, expected: float, digits: float
) -> None:
    """OLMo 2 Table 3 and section 4.1: warm-up, cosine to a tenth over the horizon, cut at `step`."""
    warmup = warmup_steps * step_tokens
    schedule = CosineSchedule(warmup_tokens=warmup, horizon_tokens=int(horizon), final_ratio=0.1)
    assert rate(schedule, peak, warmup / 2, horizon) == pytest.approx(peak / 2)
    assert rate(schedule, peak, warmup, horizon) == peak
    assert rate(schedule, peak, step * step_tokens, step * step_tokens) == pytest.approx(expected, abs=digits)


def test_olmo2_anneal_begins_at_its_parents_rate_and_ends_at_zero() -> None:
    schedule = anneal_schedule("linear", 50_000_000_000)
    assert rate(schedule, 6.135e-5, 0, 5e10) == 6.135e-5
    assert rate(schedule, 6.135e-5, 4e10, 5e10) == pytest.approx(6.135e-5 / 5)
    assert rate(schedule, 6.135e-5, 5e10, 5e10) == 0.0


def test_olmo1_linear_from_a_tenth_to_a_tenth() -> None:
    """OLMo 1 section 3.2: 5,000 steps of warm-up, in its code from a tenth of the peak, then a line to a tenth."""
    batch = 2048 * 2048
    schedule = LinearSchedule(kind="linear", warmup_tokens=5000 * batch, warmup_start_ratio=0.1, final_ratio=0.1)
    total = 2.46 * T
    assert rate(schedule, 3e-4, 0, total) == pytest.approx(3e-5)
    assert rate(schedule, 3e-4, 2500 * batch, total) == pytest.approx(1.65e-4)
    assert rate(schedule, 3e-4, (5000 * batch + total) / 2, total) == pytest.approx(3e-4 * 0.55)
    assert rate(schedule, 3e-4, total, total) == pytest.approx(3e-5)


def test_granite_power_law_leaves_its_cap_and_ends_exponentially() -> None:
    """Granite 3.0 equation 9 with beta = 1,024 sequences: 4 * 1024 * n^-0.51 meets the cap of 0.02 at n = 2.6e10."""
    schedule = PowerSchedule(kind="power", beta=1024, warmup_tokens=2500 * 1024 * 4096)
    release = (4 * 1024 / 0.02) ** (1 / 0.51)
    assert release == pytest.approx(2.6e10, rel=0.02)
    assert rate(schedule, 0.02, release * 0.99, 12 * T) == 0.02
    assert rate(schedule, 0.02, release * 1.05, 12 * T) == pytest.approx(0.02 * 1.05**-0.51, rel=1e-6)
    assert rate(schedule, 0.02, 10 * T, 12 * T) == pytest.approx(9.60e-4, rel=1e-3)
    # In tokens, beta would never let go of the cap: the reason for sequences (conflict power_beta of the facts).
    in_tokens = PowerSchedule(kind="power", beta=1024 * 4096)
    assert rate(in_tokens, 0.02, 12 * T, 12 * T) == 0.02
    tail = anneal_schedule("exponential", 2 * 10**12)
    begin = rate(schedule, 0.02, 10 * T, 10 * T)
    assert rate(tail, begin, 0, 2 * T) == begin
    assert rate(tail, begin, 1 * T, 2 * T) == pytest.approx(begin * (math.exp(0.5) - 1) / (math.e - 1))  # f(u), u = 1/2
    assert rate(tail, begin, 2 * T, 2 * T) == pytest.approx(0.0, abs=1e-12)


def test_one_run_with_a_tail_equals_two_stages() -> None:
    """Granite's stage 2 as an anneal is the tail of one power schedule."""
    whole = PowerSchedule(kind="power", beta=1024, decay_tokens=2 * 10**12)
    begin = rate(whole, 0.02, 10 * T, 12 * T)
    for share in (0.0, 0.3, 0.8, 1.0):
        one = rate(whole, 0.02, (10 + 2 * share) * T, 12 * T)
        two = rate(anneal_schedule("exponential", 2 * 10**12), begin, 2 * share * T, 2 * T)
        assert one == pytest.approx(two, rel=1e-9, abs=1e-15)


def test_stable_lm_2_hybrid() -> None:
    """Stable LM 2 equation 1 with its public configuration: N 540,000 iterations, M 1e-3, m 1e-4, warm-up 9,720."""
    alpha, beta = hybrid_constants(540_000, 1e-3, 1e-4)
    assert alpha == pytest.approx(0.1260461907, rel=1e-9)
    assert beta == pytest.approx(-82_478.86878, rel=1e-9)
    quarter, batch = 135_000, 8_388_608
    assert alpha / math.sqrt(quarter + beta) == pytest.approx(5.5e-4)
    slope = -math.pi * (1e-3 - 1e-4) / 540_000
    assert -alpha / 2 * (quarter + beta) ** -1.5 == pytest.approx(slope, rel=1e-9)

    warmup, total = 9720 * batch, 479_000 * batch
    schedule = HybridSchedule(
        kind="hybrid", period_tokens=540_000 * batch, warmup_tokens=warmup, cooldown_tokens=80_000 * batch
    )  # fmt: skip
    at = [rate(schedule, 1e-3, warmup + i * batch, total) for i in (0, quarter - 1, quarter, quarter + 1)]
    assert at[0] == 1e-3 and at[2] == pytest.approx(5.5e-4)
    assert at[1] - at[2] == pytest.approx(at[2] - at[3], rel=1e-4)  # the two halves meet in slope
    assert rate(schedule, 1e-3, total - 80_000 * batch, total) == pytest.approx(2.27e-4, rel=3e-3)
    assert rate(schedule, 1e-3, total - 40_000 * batch, total) == pytest.approx(2.27e-4 / 2, rel=3e-3)
    assert rate(schedule, 1e-3, total, total) == 0.0


def test_batch_doubles_as_at_65b() -> None:
    """OLMo 1 section 3.1: 1,024 instances of 2,048 tokens, doubling every 100B tokens until 8,192 (16M tokens)."""
    batches = Batches.of(int(1.4 * T), 8192, 2048, BatchRamp(start=1024, double_every_tokens=100_000_000_000))
    assert batches.sizes == (1024, 2048, 4096, 8192)
    doubled_at = [first * 2048 / 1e11 for first in batches.instances]
    assert doubled_at == pytest.approx([0, 1, 2, 3], abs=1e-3)
    assert [batches.at(s)[1] for s in (0, batches.steps[1] - 1, batches.steps[1], batches.total - 1)] == [
        1024,
        1024,
        2048,
        8192,
    ]
    assert batches.all_instances * 2048 == pytest.approx(1.4 * T, rel=2e-5)
