"""Ensembles and figures of reward models beside those of Python's own `statistics`."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from lehr.post.rewards.ensembles import joined, rank_means, z_means
from lehr.post.rewards.judging import Judged

DOMAINS = ["math", "chat", "math", "chat", "math", "math"]


def scores(seed: int) -> np.ndarray:
    """Of three reward models on quite different scales, with equal scores and answers that take no part."""
    rng = np.random.default_rng(seed)
    found: np.ndarray = np.round(rng.normal(size=(3, 6, 8)), 1) * np.array([1.0, 50.0, 1e-3])[:, None, None]
    found += np.array([0.0, -300.0, 7.0])[:, None, None]
    found[:, rng.random((6, 8)) < 0.2] = np.nan
    return found


def plain_ranks(values: list[float]) -> list[float]:
    """The mean of the places, from 1 on, that equal values share in the order from the highest."""
    order = sorted(values, reverse=True)
    return [statistics.fmean(place for place, other in enumerate(order, 1) if other == value) for value in values]


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 4, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_ensembles_equal_plain_ones(seed: int, weights: tuple[int, ...]) -> None:
    found, own = scores(seed), np.array(weights, dtype=float)
    shares = own / own.sum()
    mean, ranks = z_means(found, own, DOMAINS), rank_means(found, own)
    for p, domain in enumerate(DOMAINS):
        known = np.flatnonzero(~np.isnan(found[0, p]))
        expected = np.zeros(len(known))
        for model, share in zip(found, shares, strict=True):
            of_domain = [x for q, other in enumerate(DOMAINS) if other == domain for x in model[q].tolist() if x == x]
            centre, spread = statistics.fmean(of_domain), statistics.pstdev(of_domain)
            expected += share * (model[p, known] - centre) / spread
        np.testing.assert_allclose(mean[p, known], expected, atol=1e-9)
        each = [plain_ranks(model[p, known].tolist()) for model in found]
        repeated = [
            [rank for rank, weight in zip(of, weights, strict=True) for _ in range(weight)] for of in zip(*each, strict=True)
        ]
        np.testing.assert_allclose(ranks[p, known], [statistics.geometric_mean(of) for of in repeated], rtol=1e-12)
        left_out = np.flatnonzero(np.isnan(found[0, p]))
        assert np.isnan(ranks[p, left_out]).all() and np.isnan(mean[p, left_out]).all()


def test_a_model_without_a_difference_has_no_say() -> None:
    """Its z-scores would be rounding errors over rounding errors."""
    found = np.stack([np.full((6, 8), 0.1), np.arange(48.0).reshape(6, 8)])
    even = np.ones(2)
    for how in ("arithmetic", "geometric"):
        best = joined(found, even, DOMAINS, how).argmax(axis=1)
        assert best.tolist() == [7] * 6, how


def test_figures_of_held_out_pairs_by_hand() -> None:
    rewards = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0], [1.0, -3.0]])
    lengths = np.array([[4.0, 2.0], [5.0, 1.0], [3.0, 3.0], [9.0, 2.0]])
    said = Judged(rewards, lengths, ["a", "a", "b", "b"], ["p", "p", "q", "r"]).said()
    assert (said["pairs"], said["accuracy"]) == (4, pytest.approx(2.5 / 4))
    assert said["domains"]["a"]["accuracy"] == 0.5 and said["domains"]["a"]["stderr"] is None  # pairs of one prompt
    assert said["domains"]["b"]["accuracy"] == pytest.approx(0.75)
    # residuals by prompt: p: 0.375 - 0.625, q: -0.125, r: 0.375; Liang and Zeger with 3 clusters
    squares = 0.25**2 + 0.125**2 + 0.375**2
    assert said["stderr"] == pytest.approx((squares * 3 / 2) ** 0.5 / 4)
    sure = 1 / (1 + np.exp(-np.array([2.0, 1.0, 0.0, 4.0])))
    right = np.array([1.0, 0.0, 0.5, 1.0])  # bins of 0.1 from a half: 0.88 0.73 0.5 0.98
    bins = [(0.5, 0.5), (sure[1], 0.0), (sure[0], 1.0), (sure[3], 1.0)]
    np.testing.assert_allclose([(b["expected"], b["observed"]) for b in said["calibration"]], bins)
    assert said["calibration_error"] == pytest.approx(np.abs(sure - right).mean())
    assert said["length_correlation"] == pytest.approx(
        statistics.correlation(rewards.ravel().tolist(), lengths.ravel().tolist())
    )


def test_rewards_that_are_right_as_often_as_they_expect_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(scale=2.0, size=20_000)
    swapped = rng.random(20_000) > 1 / (1 + np.exp(-margin))
    sides = np.stack([margin, np.zeros_like(margin)], axis=1)
    sides[swapped] = sides[swapped][:, ::-1]
    said = Judged(sides, np.ones_like(sides), ["a"] * 20_000, range(20_000)).said()
    assert said["calibration_error"] < 0.01 and said["length_correlation"] is None
    sharper = Judged(3 * sides, np.ones_like(sides), ["a"] * 20_000, range(20_000)).said()
    assert sharper["calibration_error"] > 0.1 and sharper["accuracy"] == said["accuracy"]
