"""BRAIn: against a second writing, what its sums do not depend on, its estimators, and what it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lehr.distributed.ranks import Ranks, run_ranks
from lehr.post.answers import Prompt
from lehr.post.brain import BrainObjective, brain_loss, effective_samples, posterior
from lehr.post.rewards.scored import Rewards
from lehr.post.rollout import RollOut
from lehr.train.losses import IGNORE
from tests.post import training
from tests.post.test_ppo import Said, _moved, _padded, _zero


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


@pytest.mark.parametrize("baseline", [True, False])
def test_loss_and_gradient_equal_a_second_writing(baseline: bool) -> None:
    """Prompt by prompt in NumPy, the gradient as -(a - b), or -a without the baseline."""
    draw = np.random.default_rng(4)
    rewards, reference, proposal = draw.normal(size=(5, 6)), -20 * draw.random((5, 6)), -20 * draw.random((5, 6))
    new = torch.tensor(proposal + draw.normal(size=(5, 6)), dtype=torch.float32, requires_grad=True)
    log_a = posterior(*(torch.tensor(x, dtype=torch.float32) for x in (rewards, reference, proposal)), 0.7)
    loss, log_b = brain_loss(new, torch.tensor(proposal, dtype=torch.float32), log_a, baseline)
    loss.backward()
    total, ours = 0.0, new.detach().double().numpy()
    assert new.grad is not None
    for p in range(5):
        a, b = _softmax(rewards[p] / 0.7 + reference[p] - proposal[p]), _softmax(ours[p] - proposal[p])
        total += float(np.sum(a * np.log(a / b))) if baseline else -float(np.sum(a * ours[p]))
        np.testing.assert_allclose(new.grad[p].numpy(), -(a - b) if baseline else -a, rtol=1e-5, atol=1e-6)
        assert float(effective_samples(log_b)[p]) == pytest.approx(1 / np.sum(b * b), rel=1e-5)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)


def test_a_policy_that_is_the_posterior_stays() -> None:
    """With reward 0 the posterior is the reference: no loss, no gradient, whatever the proposal."""
    draw = torch.Generator().manual_seed(0)
    reference, proposal = -torch.rand(3, 5, generator=draw) * 9, -torch.rand(3, 5, generator=draw) * 9
    new = reference.clone().requires_grad_()
    loss, _ = brain_loss(new, proposal, posterior(torch.zeros(3, 5), reference, proposal, 0.1))
    loss.backward()
    assert abs(float(loss.detach())) < 1e-6 and new.grad is not None and float(new.grad.abs().max()) < 1e-6


def test_both_estimators_near_the_gradient_and_what_the_baseline_does_to_their_variance() -> None:
    """Over a vocabulary of eight answers, where the gradient of KL(posterior || policy) is known: policy - posterior. With many
    samples both are near it. With eight, the baseline's scatters less where the proposal is the policy itself, and not at all
    where the policy is the posterior; on samples of a proposal far from the policy it scatters more."""
    draw = np.random.default_rng(1)
    logits, reference, proposal = (np.log(_softmax(draw.normal(size=8))) for _ in range(3))
    rewards = draw.normal(size=8)
    target = _softmax(rewards / 0.8 + reference)

    def estimates(policy: np.ndarray, proposal: np.ndarray, samples: int, times: int, baseline: bool) -> np.ndarray:
        """Gradients by the policy's eight logits."""
        rows = np.random.default_rng(2).choice(8, size=(times, samples), p=np.exp(proposal))
        theta = torch.tensor(policy, requires_grad=True)
        new = theta.log_softmax(0)[torch.tensor(rows)]
        log_a = posterior(*(torch.tensor(x[rows]) for x in (rewards, reference, proposal)), 0.8)
        found = []
        for t in range(times):
            loss, _ = brain_loss(new[t : t + 1], torch.tensor(proposal[rows[t : t + 1]]), log_a[t : t + 1], baseline)
            found.append(torch.autograd.grad(loss, theta, retain_graph=True)[0].numpy())
        return np.array(found)

    right = np.exp(logits) - target
    for baseline in (True, False):
        assert np.abs(estimates(logits, proposal, 4096, 20, baseline).mean(axis=0) - right).max() < 0.01
    places = {"fresh": (logits, logits), "there": (np.log(target), proposal), "far": (logits, proposal)}
    spread = {(n, b): estimates(*p, 8, 400, b).var(axis=0).sum() for n, p in places.items() for b in (True, False)}
    assert spread["fresh", True] < 0.9 * spread["fresh", False]
    assert spread["there", True] < 1e-12 < spread["there", False]
    assert spread["far", True] > spread["far", False]


def _roll_out() -> tuple[Any, BrainObjective, RollOut]:
    """An objective and a proposal's answers, from which the policy has moved on."""
    state, policy = training.fresh()
    objective = training.brain(state, policy)
    objective.roll_outs.rows(0, Ranks())
    _moved(policy.model)
    assert isinstance(state.rollout, RollOut)
    return state, objective, state.rollout


def test_sums_do_not_depend_on_accumulation_or_padding() -> None:
    """All prompts at once, one by one, and padded: sums and gradients to 1e-6."""
    state, objective, whole = _roll_out()
    samples, found = objective.settings.samples, []
    for parts in ([whole], [whole.take(range(i, i + samples)) for i in range(0, len(whole), samples)], [_padded(whole, 9)]):
        _zero(state)
        sums = [objective.learn(part) for part in parts]
        numbers = [sum(float(x.loss) for x in sums), sum(x.weight for x in sums)]
        numbers += [sum(float(x.extra[name][i]) for x in sums) for name in objective.extras for i in (0, 1)]
        found.append((numbers, state.whole.flat.grads.clone()))
    (numbers, gradient), *others = found
    assert numbers[1] == 6.0 and numbers[0] > 0
    for again, grad in others:
        assert again == pytest.approx(numbers, rel=1e-6, abs=1e-5)
        assert float((grad - gradient).norm() / gradient.norm()) < 1e-6


def _on_ranks(ranks: Ranks) -> list[Any]:
    state, policy = training.fresh()
    objective = training.brain(state, policy, prompts=3, refresh=2, sampler=Said())  # each of six prompts once
    found = []
    for step in range(2):
        _zero(state)
        sums = objective.backward(step, ranks)
        scalars = torch.tensor([float(sums.loss), sums.weight], dtype=torch.float64)
        state.optimizer.sum_(scalars, ranks)
        found.append((scalars, state.whole.flat.grads.clone()))
        _moved(policy.model)
    return found


@pytest.mark.long
def test_sums_do_not_depend_on_the_number_of_ranks() -> None:
    """One, two and four ranks over gloo: a prompt's answers are together on one of them."""
    alone = run_ranks(1, 1, _on_ranks)
    for world in (2, 4):
        for (mine, gradient), (other, again) in zip(alone, run_ranks(world, 1, _on_ranks), strict=True):
            torch.testing.assert_close(other, mine, rtol=1e-6, atol=1e-5)
            assert float((again - gradient).norm() / gradient.norm()) < 2e-6


def test_a_proposal_serves_so_many_steps_and_is_then_renewed() -> None:
    state, policy = training.fresh()
    sampler = training.Sampled(policy)
    objective = training.brain(state, policy, sampler=sampler)
    prompts = []
    for step in range(6):
        rows = objective.roll_outs.rows(step, Ranks())
        assert len(rows) == 2 * 4 and rows.step == step // 3 * 3
        prompts += [int((labels == IGNORE).sum()) for labels in rows.labels_BT]
        _zero(state)
    assert sampler.followed == [0, 3]


def test_it_learns_what_is_rewarded(tmp_path: Path) -> None:
    def make(state: Any, policy: Any) -> BrainObjective:
        objective = training.brain(state, policy, beta=0.1, refresh=8, prompts=6, samples=16, no_end_reward=None)
        objective.prompts = [Prompt([9, 10 + i], lambda ids, finished: float(ids[0] < 150)) for i in range(6)]
        objective.settings = replace(objective.settings, rewards=Rewards())
        return objective

    _, log = training.train(tmp_path, Ranks(), make, steps=48)
    first, last = (np.mean([row["reward"] for row in rows]) for rows in (log[:8], log[-16:]))
    assert last > first + 0.08
    assert all(np.isfinite(row["posterior_kl"]) and 1 <= row["policy_samples"] <= 16.001 for row in log)
