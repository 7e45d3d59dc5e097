"""The parts of PPO against a second writing of them, on random batches with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.post.moments import moments
from lehr.post.ppo import (
    Controller,
    clipped_tokens,
    divergence,
    generalised_advantages,
    policy_token_loss,
    token_rewards,
    value_token_loss,
    whitened,
)
from tests.post import by_hand

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def _batch(seed: int) -> tuple[Tensor, list[slice], dict[str, Tensor]]:
    """A mask of adjacent answers of random lengths and places, one of them empty; their slices; random numbers beside them."""
    draw = np.random.default_rng(seed)
    begins, lengths = draw.integers(0, 5, 9), draw.integers(1, 12, 9)
    lengths[3] = 0
    mask_BT = torch.zeros(9, 17, dtype=torch.bool)
    for row, begin, length in zip(mask_BT, begins, lengths, strict=True):
        row[begin : begin + length] = True
    normal = {name: torch.from_numpy(draw.normal(size=(9, 17))).float() for name in ("old", "reference", "values", "moved")}
    normal |= {"old": -normal["old"].abs(), "scores": torch.from_numpy(draw.normal(size=9) * 3).float()}
    normal["reference"] = normal["old"] + 0.3 * normal["reference"]
    return mask_BT, [slice(b, b + n) for b, n in zip(begins, lengths, strict=True)], normal


def _answer(of: dict[str, Tensor], b: int, place: slice) -> by_hand.Answer:
    own = {name: of[name][b, place].double().numpy() for name in ("old", "reference", "values")}
    return by_hand.Answer(**own, reward=float(of["scores"][b]))


def _rows(found_BT: Tensor, places: Sequence[slice]) -> list[np.ndarray]:
    return [found_BT[b, place].detach().double().numpy() for b, place in enumerate(places)]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (1.0, 1.0), (0.97, 0.0)])
def test_advantages_and_divergence_equal_their_definitions(estimator: Any, gamma: float, lam: float) -> None:
    """On random batches with masks, to 1e-5; nothing stands outside the masks."""
    for seed in range(8):
        mask_BT, places, of = _batch(seed)
        kl_BT = divergence(of["old"], of["reference"], estimator)
        rewards_BT = token_rewards(of["scores"], kl_BT, mask_BT, 0.11)
        advantages_BT, returns_BT = generalised_advantages(rewards_BT, of["values"], mask_BT, gamma, lam)
        (_, mean, variance), *_ = moments(Ranks(), advantages_BT[mask_BT])
        white_BT = whitened(advantages_BT, mask_BT, mean, variance)
        answers = [_answer(of, b, place) for b, place in enumerate(places) if place.start < place.stop]
        found = [by_hand.advantages(answer, 0.11, estimator, gamma, lam) for answer in answers]
        kept = [place for place in places if place.start < place.stop]
        rows = [b for b, place in enumerate(places) if place.start < place.stop]
        for mine_BT, theirs in (
            (kl_BT, [by_hand.kl(answer, estimator) for answer in answers]),
            (advantages_BT, found),
            (returns_BT, [a + answer.values for a, answer in zip(found, answers, strict=True)]),
            (white_BT, by_hand.whitened(found)),
        ):
            for row, right in zip(_rows(mine_BT[rows], kept), theirs, strict=True):
                np.testing.assert_allclose(row, right, **CLOSE)
        for outside_BT in (rewards_BT, advantages_BT, returns_BT, white_BT):
            assert not outside_BT[~mask_BT].any()


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_losses_and_gradients_equal_a_second_writing(clip: float) -> None:
    for seed in range(8):
        mask_BT, places, of = _batch(seed)
        new_BT = (of["old"] + 0.3 * of["moved"]).requires_grad_()
        advantages_BT = of["reference"] * 2 + 1
        (policy_token_loss(new_BT, of["old"], advantages_BT, 0.2) * mask_BT).sum().backward()
        loss = (policy_token_loss(new_BT, of["old"], advantages_BT, 0.2) * mask_BT).sum()
        rows = [_rows(x, places) for x in (new_BT, of["old"], advantages_BT)]
        right = [by_hand.policy_loss(*row, 0.2) for row in zip(*rows, strict=True)]
        assert float(loss.detach()) == pytest.approx(sum(r[0] for r in right), rel=1e-5)
        assert new_BT.grad is not None and not new_BT.grad[~mask_BT].any()
        for row, (_, slope, _) in zip(_rows(new_BT.grad, places), right, strict=True):
            np.testing.assert_allclose(row, slope, **CLOSE)
        held_BT = clipped_tokens(new_BT, of["old"], advantages_BT, 0.2) & mask_BT
        assert 0 < int(held_BT.sum()) == sum(r[2] for r in right)

        now_BT = (of["values"] + 0.5 * of["moved"]).requires_grad_()
        total = (value_token_loss(now_BT, of["values"], advantages_BT, clip) * mask_BT).sum()
        total.backward()
        rows = [_rows(x, places) for x in (now_BT, of["values"], advantages_BT)]
        values = [by_hand.value_loss(*row, clip) for row in zip(*rows, strict=True)]
        assert float(total.detach()) == pytest.approx(sum(v[0] for v in values), rel=1e-5)
        assert now_BT.grad is not None
        for row, (_, slope) in zip(_rows(now_BT.grad, places), values, strict=True):
            np.testing.assert_allclose(row, slope, **CLOSE)


def test_a_coefficient_follows_the_divergence() -> None:
    """Ziegler et al.: by at most a fifth of answers / horizon, up above the target and down below it; fixed without one."""
    control = Controller(0.05, target=2.0, horizon=10_000.0)
    assert control.next(0.05, 2.2, 64) == pytest.approx(0.05 * (1 + 0.1 * 64 / 10_000))
    assert control.next(0.05, 100.0, 64) == pytest.approx(0.05 * (1 + 0.2 * 64 / 10_000))
    assert control.next(0.05, -3.0, 64) == pytest.approx(0.05 * (1 - 0.2 * 64 / 10_000))
    assert Controller(0.05).next(0.05, 100.0, 64) == 0.05
