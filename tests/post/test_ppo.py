"""A step of PPO against a second writing of it, what its sums do not depend on, and what it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.generate import LanguageModel
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.grpo import GrpoObjective, Prompt
from lehr.post.ppo import (
    Controller,
)
from lehr.post.ppo_objective import PpoObjective, PpoRollOut
from lehr.post.rewards.scored import Rewards
from lehr.post.rollout import RollOut
from lehr.train.losses import IGNORE
from lehr.train.state import TrainState
from tests.post import by_hand, training

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def _rows(found_BT: Tensor, places: Sequence[slice]) -> list[np.ndarray]:
    return [found_BT[b, place].detach().double().numpy() for b, place in enumerate(places)]


class Said:
    """Answers that follow from the prompt and its place among its like alone, whichever rank asks."""

    def follow(self, step: int) -> None: ...

    def generate(self, prompts: Sequence[Sequence[int]], *_: Any) -> list[list[int]]:
        seen: dict[tuple[int, ...], int] = {}
        out = []
        for prompt in prompts:
            again = seen[tuple(prompt)] = seen.get(tuple(prompt), -1) + 1
            draw = np.random.default_rng([len(prompt), again])
            ids = draw.integers(5, 300, 1 + int(draw.integers(0, 4))).tolist()
            out.append([*ids, 0] if draw.random() < 0.6 else ids)
        return out


def _logprobs(model: Transformer, tokens: Tensor, label: Tensor, temperature: float) -> np.ndarray:
    logits = model(tokens[None])[0].detach().double().numpy() / temperature
    logits -= logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))[np.arange(len(label)), label.clamp(min=0)]


def _score(ids: list[int], liked: ScalarModel, prompt: list[int], end: int) -> float:
    if ids[-1] != end:
        return -0.5
    own = float(ids[0] < 150) + 0.5
    return own + 0.3 * float(liked.values(torch.tensor([prompt + ids]))[0, -1].detach())


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_a_step_equals_a_second_writing(estimator: Any) -> None:
    """The roll-out's rewards, values, advantages and coefficient from the answers alone; then, after an update, both models'
    losses, and gradients by finite differences in the direction of the gradient."""
    state, policy = training.fresh()
    objective = training.ppo(state, policy, epochs=2, temperature=0.8, kl_estimator=estimator, sampler=Said())
    s, liked = objective.settings, state.named("liked", ScalarModel)
    _moved(state.named("reference", Transformer))  # or every divergence would be 0
    value_before = state.named("value", ScalarModel)
    old_policy, end = policy.model, policy.tokenizer.eos_id
    objective.roll_outs.rows(0, Ranks())
    whole = state.rollout
    assert isinstance(whole, PpoRollOut)
    places, answers = [], []
    for tokens, label, score in zip(whole.tokens_BT, whole.labels_BT, whole.rewards_B, strict=True):
        at = [t for t, i in enumerate(label.tolist()) if i != IGNORE]
        place, ids, prompt = slice(at[0], at[-1] + 1), label[at[0] : at[-1] + 1].tolist(), tokens[: at[0] + 1].tolist()
        assert float(score) == pytest.approx(_score(ids, liked, prompt, end), abs=1e-5)
        own = (_logprobs(m, tokens, label, 0.8)[place] for m in (old_policy, state.named("reference", Transformer)))
        values = value_before.values(tokens[None])[0, place].detach().double().numpy()
        places.append(place)
        answers.append(by_hand.Answer(*own, values, float(score)))
    assert len({bool(finished) for finished in whole.finished_B}) == 2
    plain = [by_hand.advantages(a, 0.05, estimator, s.gamma, s.gae_lambda) for a in answers]
    assert whole.token_advantages_BT is not None and whole.returns_BT is not None and whole.explained_B is not None
    for found, right in zip(_rows(whole.token_advantages_BT, places), by_hand.whitened(plain), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=2e-5)
    returns = [advantage + a.values for advantage, a in zip(plain, answers, strict=True)]
    for found, right in zip(_rows(whole.returns_BT, places), returns, strict=True):
        np.testing.assert_allclose(found, right, **CLOSE)
    answer_kl = np.mean([by_hand.kl(a, estimator).sum() for a in answers])
    assert float(state.carried["kl_coefficient"]) == pytest.approx(s.kl.next(0.05, answer_kl, 16), rel=1e-6)
    unexplained = np.var(np.concatenate(plain), ddof=1) / np.var(np.concatenate(returns), ddof=1)
    assert float(whole.explained_B[0]) == pytest.approx(1 - unexplained, abs=1e-5)

    for model in (policy.model, value_before):
        _moved(model)
    _zero(state)
    sums = objective.learn(whole)
    new = [_logprobs(policy.model, t, i, 0.8)[p] for t, i, p in zip(whole.tokens_BT, whole.labels_BT, places, strict=True)]
    white = _rows(whole.token_advantages_BT, places)
    right = [by_hand.policy_loss(n, a.old, w, s.clip) for n, a, w in zip(new, answers, white, strict=True)]
    tokens = sum(map(len, new))
    held = sum(r[2] for r in right)
    assert 0 < held < tokens and sums.extra["clipped"] == (held, tokens) and sums.weight == tokens
    assert sums.loss == pytest.approx(sum(r[0] for r in right), rel=1e-4)
    now = [value_before.values(t[None])[0, p].detach().double().numpy() for t, p in zip(whole.tokens_BT, places, strict=True)]
    losses = [by_hand.value_loss(n, a.values, r, s.value_clip)[0] for n, a, r in zip(now, answers, returns, strict=True)]
    assert sums.models["value"] == (pytest.approx(0.1 * sum(losses), rel=1e-4), tokens)
    for name, loss in (("model", lambda: objective.learn(whole).loss), ("value", lambda: objective.learn_values(whole)[0])):
        _is_its_gradient(state, name, loss)


def _moved(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))


def _zero(state: TrainState) -> None:
    for trained in state.models.values():
        trained.optimizer.zero()


def _is_its_gradient(state: TrainState, name: str, loss: Any) -> None:
    """A step along the gradient changes the loss by the step times its norm."""
    flat = state.models[name].whole.flat
    _zero(state)
    loss()
    gradient = flat.grads.clone()
    unit = gradient / gradient.norm()
    step, at = 2e-3, flat.values.clone()
    both = []
    for sign in (1, -1):
        flat.values.copy_(at + sign * step * unit)
        both.append(loss())
    flat.values.copy_(at)
    assert (both[0] - both[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.03)


# -- what it does not depend on


def _roll_out(kind: str) -> tuple[TrainState, GrpoObjective | PpoObjective, RollOut]:
    """An objective and a roll-out of it whose policy has moved on."""
    state, policy = training.fresh()
    objective: GrpoObjective | PpoObjective
    if kind == "ppo":
        objective = training.ppo(state, policy, epochs=2)
    else:
        objective = GrpoObjective(state, policy, training.prompts(), training.settings(epochs=2), 3)
    objective.roll_outs.rows(0, Ranks())
    for trained in state.models.values():
        _moved(trained.model)
    assert isinstance(state.rollout, RollOut)
    return state, objective, state.rollout


def _padded(r: RollOut, columns: int) -> RollOut:
    """With so many more columns of token 7, outside every answer."""
    fill = {"tokens_BT": 7, "labels_BT": IGNORE}
    own = {
        name: torch.cat([x, x.new_full((len(x), columns), fill.get(name, 0))], dim=1) if x.dim() == 2 else x
        for name, x in r.tensors().items()
    }
    return type(r).from_tensors(own)


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_sums_do_not_depend_on_accumulation_or_padding(kind: str) -> None:
    """All at once; row by row; in threes, each cut to its longest; and padded: sums and both models' gradients to 1e-6."""
    state, objective, whole = _roll_out(kind)
    found = []
    for parts in (
        [whole],
        [whole.take([i]) for i in range(len(whole))],
        [whole.take(range(i, min(i + 3, len(whole)))) for i in range(0, len(whole), 3)],
        [_padded(whole, 9)],
    ):
        _zero(state)
        sums = [objective.learn(part) for part in parts]
        numbers = [sum(float(x.loss) for x in sums), sum(x.weight for x in sums)]
        numbers += [sum(float(x.models[name][0]) for x in sums) for name in state.further]
        numbers += [sum(float(x.extra[name][i]) for x in sums) for name in objective.extras for i in (0, 1)]
        found.append((numbers, {name: t.whole.flat.grads.clone() for name, t in state.models.items()}))
    (numbers, gradients), *others = found
    for again, grads in others:
        assert again == pytest.approx(numbers, rel=1e-6, abs=1e-5)
        for name, grad in grads.items():
            assert float((grad - gradients[name]).norm() / gradients[name].norm()) < 1e-6


def _on_ranks(ranks: Ranks, kind: str) -> list[Any]:
    """For two updates of a roll-out: mean losses, and the gradients summed over ranks."""
    state, policy = training.fresh()
    objective: GrpoObjective | PpoObjective
    if kind == "ppo":
        objective = training.ppo(state, policy, mini_batches=2, sampler=Said(), prompts=6)
    else:
        settings = training.settings(mini_batches=2, prompts=6)
        objective = GrpoObjective(state, policy, training.prompts(), settings, 3, Said())
    found: list[Any] = []
    for step in range(2):
        _zero(state)
        sums = objective.backward(step, ranks)
        scalars = torch.tensor([float(sums.loss), sums.weight, *(float(x) for pair in sums.models.values() for x in pair)])
        scalars = scalars.double()
        state.optimizer.sum_(scalars, ranks)
        for trained in state.further.values():
            trained.optimizer.sum_(torch.zeros(1), ranks)
        found.append((scalars, [t.whole.flat.grads.clone() for t in state.models.values()]))
        if step == 0:
            for trained in state.models.values():
                _moved(trained.model)
    return [*found, {name: value.clone() for name, value in state.carried.items()}]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_sums_do_not_depend_on_the_number_of_ranks(kind: str) -> None:
    """One, two and four ranks over gloo, with advantages whitened over all of them."""
    first, second, carried = run_ranks(1, 1, _on_ranks, kind)
    assert bool(carried) == (kind == "ppo")
    for world in (2, 4):
        again = run_ranks(world, 1, _on_ranks, kind)
        for (scalars, grads), (others, theirs) in zip((first, second), again, strict=False):
            torch.testing.assert_close(others, scalars, rtol=1e-6, atol=1e-5)
            for mine, other in zip(grads, theirs, strict=True):
                assert float((mine - other).norm() / mine.norm()) < 2e-6
        assert {name: float(x) for name, x in again[2].items()} == pytest.approx({k: float(x) for k, x in carried.items()})


# -- what it learns


def test_normalised_rewards_are_z_scores_of_the_whole_roll_out() -> None:
    """And an answer without an end has its own reward, in place of them."""
    state, policy = training.fresh()
    objective = training.ppo(state, policy, epochs=2, normalised=True, sampler=Said())
    objective.roll_outs.rows(0, Ranks())
    whole = state.rollout
    assert isinstance(whole, PpoRollOut)
    found, own = [], []
    for tokens, labels in zip(whole.tokens_BT.tolist(), whole.labels_BT.tolist(), strict=True):
        first = next(t for t, i in enumerate(labels) if i != IGNORE)
        ids = [i for i in labels if i != IGNORE]
        row = torch.tensor([[*tokens[: first + 1], *ids]])
        found.append(float(state.named("liked", ScalarModel).values(row)[0, -1].detach()))
        own.append(float(ids[0] < 150) + 0.5 * (ids[-1] == policy.tokenizer.eos_id))
    z = (np.array(found) - np.mean(found)) / np.std(found, ddof=1)
    right = np.where(whole.finished_B.numpy(), np.array(own) + 0.3 * z, -0.5)
    np.testing.assert_allclose(whole.rewards_B.numpy(), right, rtol=1e-4, atol=1e-4)


def _of_reward(state: TrainState, policy: LanguageModel, **changes: Any) -> PpoObjective:
    objective = training.ppo(state, policy, **changes)
    objective.prompts = [Prompt([9, 10 + i], lambda ids, finished: float(ids[0] < 150)) for i in range(6)]
    objective.settings = replace(objective.settings, rewards=Rewards())
    return objective


@pytest.mark.parametrize(("steps", "updates"), [(96, {"epochs": 2}), (128, {"kl_estimator": "k3"})])
def test_policy_gradients_find_the_rewarded_answers_and_values_foresee_them(
    steps: int, updates: dict[str, Any], tmp_path: Path
) -> None:
    """About half of the answers begin with what is paid for; soon nearly all do, and the value model expects it."""
    make = partial(_of_reward, prompts=8, max_new_tokens=3, no_end_reward=None, kl=Controller(0.01), **updates)
    state, rows = training.train(tmp_path, Ranks(), make, steps=steps)
    reward = [row["reward"] for row in rows]
    assert np.mean(reward[:4]) < 0.75 < 0.9 < np.mean(reward[-4:])
    expected = state.named("value", ScalarModel).values(torch.tensor([[9, 10 + i] for i in range(6)]))[:, -1]
    assert float(expected.detach().mean()) == pytest.approx(np.mean(reward[-4:]), abs=0.2)
    assert rows[-1]["kl_coefficient"] == pytest.approx(0.01)
