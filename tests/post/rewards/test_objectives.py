"""Losses and gradients of reward models beside a few lines without packing; what does not change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.scalar import ScalarModel
from lehr.post.batches import rows_of_step
from lehr.post.rewards.objectives import Aspects, BradleyTerry, Rewarding
from lehr.post.rewards.rows import all_numbers
from lehr.post.rewards.scorers import ByContrast
from tests.post.rewards.random_rows import gradients, pairs, plain_numbers, policy, reward_model, rows

BATCH = 8
SETTINGS = Rewarding(BATCH, seed=3, centre=0.05)
PAIRS, ANSWERS = pairs(24, seed=1), rows(24, seed=2)
RATINGS = torch.tensor(np.random.default_rng(3).uniform(0, 4, (24, 5)), dtype=torch.float32)


def by_pairs(model: ScalarModel, step: int) -> Tensor:
    drawn = [PAIRS[i] for i in rows_of_step(step, BATCH, len(PAIRS), 3)]
    chosen_B = plain_numbers(model, [p.chosen for p in drawn])[:, 0]
    rejected_B = plain_numbers(model, [p.rejected for p in drawn])[:, 0]
    return (torch.log1p(torch.exp(rejected_B - chosen_B)) + 0.05 * (chosen_B + rejected_B) ** 2).sum()


def by_ratings(model: ScalarModel, step: int) -> Tensor:
    drawn = rows_of_step(step, BATCH, len(ANSWERS), 3).tolist()
    away_RK = plain_numbers(model, [ANSWERS[i] for i in drawn]) - RATINGS[drawn]
    return (away_RK**2).mean(dim=1).sum()


Make = Callable[[ScalarModel], Any]
KINDS: dict[str, tuple[int, Make, Callable[[ScalarModel, int], Tensor]]] = {
    "bradley-terry": (1, lambda model: BradleyTerry(model, PAIRS, SETTINGS), by_pairs),
    "multi-aspect": (5, lambda model: Aspects(model, ANSWERS, RATINGS, replace(SETTINGS, centre=0.0)), by_ratings),
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_equal_plain_ones(kind: str) -> None:
    outputs, make, plainly = KINDS[kind]
    model = reward_model(outputs)
    objective = make(model)
    for step in range(3):
        sums = objective.backward(step, Ranks())
        ours = gradients(model)
        expected = plainly(model, step)
        expected.backward()
        theirs = gradients(model)
        assert sums.weight == BATCH and sums.loss == pytest.approx(float(expected.detach()), rel=1e-5)
        assert ours.keys() == theirs.keys() and "score.weight" in ours
        for name, grad in ours.items():
            torch.testing.assert_close(grad / BATCH, theirs[name] / BATCH, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_accumulation_nor_ranks_change_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, make, _ = KINDS[kind]
    model = reward_model(outputs)
    objective = make(model)
    whole, grads = objective.backward(0, Ranks()), gradients(model)

    def same(parts: list[Any]) -> None:
        assert sum(p.loss for p in parts) / BATCH == pytest.approx(whole.loss / BATCH, abs=1e-6)
        assert sum(p.weight for p in parts) == whole.weight and sum(p.tokens for p in parts) == whole.tokens
        for name, grad in gradients(model).items():
            torch.testing.assert_close(grad / BATCH, grads[name] / BATCH, rtol=0, atol=1e-6, msg=name)

    for world in (2, 4):
        same([objective.backward(0, Ranks(rank, world)) for rank in range(world)])
    monkeypatch.setattr("lehr.post.preference.ROW_TOKENS", 40)  # one pair, or one answer, at a time
    monkeypatch.setattr("lehr.post.rewards.rows.ROW_TOKENS", 20)
    same([objective.backward(0, Ranks())])


def test_a_reward_depends_neither_on_its_neighbours_nor_on_what_follows_the_answer() -> None:
    model = reward_model()
    together = all_numbers(model, ANSWERS)[:, 0]
    alone = torch.cat([all_numbers(model, [row])[:, 0] for row in ANSWERS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    longer = [replace(r, ids=[*r.ids, 7, 8, 9], mask=[*r.mask, False, False, False]) for r in ANSWERS]
    torch.testing.assert_close(together, all_numbers(model, longer)[:, 0], rtol=0, atol=1e-6)
    # PPO reads its reward models so (ScalarModel.values), at the last token of an answer.
    values = [float(model.values(torch.tensor([r.ids]))[0, np.flatnonzero(r.mask)[-1]].detach()) for r in ANSWERS]
    assert together.tolist() == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_contrast_is_that_of_two_plain_log_softmaxes(per_token: bool) -> None:
    strong, weak = policy(), policy()
    with torch.no_grad():
        for p in weak.parameters():
            p *= 0.9
    found = ByContrast(strong, weak, per_token).scores(ANSWERS)
    for row, value in zip(ANSWERS, found.tolist(), strict=True):
        tokens = torch.tensor([row.ids])
        logs = [model(tokens)[0].double().log_softmax(-1) for model in (strong, weak)]
        own = [t for t, mine in enumerate(row.mask) if mine]
        expected = sum(float(logs[0][t - 1, row.ids[t]] - logs[1][t - 1, row.ids[t]]) for t in own)
        assert value == pytest.approx(expected / len(own) if per_token else expected, rel=1e-5, abs=1e-5)
    assert torch.equal(ByContrast(strong, strong).scores(ANSWERS), torch.zeros(len(ANSWERS)))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    """Plain gradient steps over the same examples lower the loss to less than half."""
    outputs, make, _ = KINDS[kind]
    model = reward_model(outputs)
    objective = make(model)
    mean = partial(_epoch, objective)
    before = mean()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(40):
        optimiser.zero_grad()
        objective.backward(step, Ranks())
        optimiser.step()
    assert mean() < before / 2


def _epoch(objective: Any) -> float:
    return sum(objective.backward(step, Ranks()).loss for step in range(3)) / 24
