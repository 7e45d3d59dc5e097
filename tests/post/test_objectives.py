"""SFT, DPO and GRPO losses against numbers that a reader can check by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.batches import OfExamples, rows_of_step
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt, advantages, grpo_token_loss
from lehr.post.packing import one_row
from lehr.post.preference import DpoObjective, DpoSettings, RenderedPair, answer_logprobs, dpo_loss, reference_logprobs
from lehr.post.rendered import Rendered
from lehr.post.rollout import RollOut
from lehr.post.sft import SftObjective, pad
from lehr.train.checkpointing.checkpoint import copy_parameters
from lehr.train.losses import IGNORE, cross_entropy, token_logprobs
from lehr.train.state import TrainState

SETTINGS = GrpoSettings(prompts=2, samples=4, temperature=1.0, max_new_tokens=6, clip_low=0.2, clip_high=0.28, kl=0.0)
ROWS = [
    Rendered([3, 9, 4, 20, 21, 0], [False, False, False, True, True, True]),
    Rendered([3, 8, 4, 22, 0], [False] * 3 + [True] * 2),
]


def _model() -> Transformer:
    config = Model(vocab_size=40, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=32, init_std=0.2)
    return Transformer(config).initialise(1)


def test_labels_are_the_assistants_tokens_shifted() -> None:
    tokens_BT, labels_BT = pad(ROWS, pad_id=1)
    assert tokens_BT.tolist() == [[3, 9, 4, 20, 21], [3, 8, 4, 22, 1]]
    x = IGNORE
    assert labels_BT.tolist() == [[x, x, 20, 21, 0], [x, x, 22, 0, x]]


def test_rows_of_a_step_are_each_example_once_an_epoch() -> None:
    drawn = np.concatenate([rows_of_step(step, 4, 10, seed=3) for step in range(5)])
    assert sorted(drawn[:10]) == list(range(10)) == sorted(drawn[10:])
    assert list(drawn[:10]) != list(drawn[10:])


def test_losses_equal_a_plain_log_softmax() -> None:
    model = _model()
    tokens_BT, labels_BT = pad(ROWS, pad_id=1)
    log_p = model(tokens_BT).log_softmax(dim=-1)
    by_hand = [(0, 2, 20), (0, 3, 21), (0, 4, 0), (1, 2, 22), (1, 3, 0)]
    log_p = log_p.detach()
    expected = -sum(float(log_p[b, t, i]) for b, t, i in by_hand)
    ce = cross_entropy(model, tokens_BT, labels_BT, with_z=True)
    assert float(ce.nats) == pytest.approx(expected, rel=1e-5)
    assert ce.tokens == 5
    z = sum(float(model(tokens_BT)[b, t].logsumexp(dim=-1)) ** 2 for b, t, _ in by_hand)
    assert float(ce.z) == pytest.approx(z, rel=1e-5)
    picked = token_logprobs(model, tokens_BT, labels_BT)
    assert float(picked[0, 3]) == pytest.approx(float(log_p[0, 3, 21]), rel=1e-5)
    assert float(picked[1, 4]) == 0.0


def test_sft_sums_do_not_depend_on_the_number_of_ranks() -> None:
    model = _model()
    objective = SftObjective(model, ROWS * 4, OfExamples(4, 8, 2))
    whole = objective.backward(0, Ranks())
    grad = model.embed.weight.grad.clone()  # type: ignore[union-attr]
    model.zero_grad()
    halves = [objective.backward(0, Ranks(rank, 2)) for rank in range(2)]
    assert sum(h.loss for h in halves) == pytest.approx(whole.loss, rel=1e-5)
    assert sum(h.weight for h in halves) == whole.weight
    torch.testing.assert_close(model.embed.weight.grad, grad, rtol=1e-4, atol=1e-6)


def _answers(model: Transformer) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return answer_logprobs(model, one_row(ROWS, torch.device("cpu")))


def _means(model: Transformer) -> Tensor:
    """Mean log-probability of each answer's tokens."""
    sums, lengths = _answers(model)
    return sums / lengths


def test_dpo_by_hand() -> None:
    one = torch.tensor
    # margin = (-1 - -1.5) - (-3 - -2.5) = 1.0; beta 2: -log sigmoid(2)
    loss = dpo_loss(one([-1.0]), one([-3.0]), one([-1.5]), one([-2.5]), beta=2.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2.0)), rel=1e-6)
    found, lengths = _answers(_model())
    assert lengths.tolist() == [3, 2]
    torch.testing.assert_close(found, token_logprobs(_model(), *pad(ROWS, 1)).sum(dim=1))


def test_dpo_moves_the_chosen_up_and_the_rejected_down() -> None:
    model = _model()
    pairs = [RenderedPair(ROWS[0], ROWS[1])]
    objective = DpoObjective(model, pairs, reference_logprobs(model, pairs, Ranks()), DpoSettings(1, 5.0, 0.0), seed=0)
    before = _means(model)
    sums = objective.backward(0, Ranks())
    assert sums.loss == pytest.approx(math.log(2), rel=1e-5)  # no margin against itself
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.01 * p.grad
    after = _means(model)
    for settings in (DpoSettings(1, 5.0, 0.0), DpoSettings(1, 0.1, 0.0, normalised=False)):  # the log is per token for both
        logged = DpoObjective(model, pairs, objective.reference_N2, settings, seed=0).backward(0, Ranks()).extra
        gained = after - before
        assert logged["margin_over_reference"] == (pytest.approx(float(gained[0] - gained[1]), rel=1e-4), 1.0)
        assert logged["preference_accuracy"] == (float(after[0] > after[1]), 1.0)
    assert after[0] - before[0] > after[1] - before[1]


def test_dpo_of_whole_answers_weighs_them_by_their_length() -> None:
    """Rafailov et al.'s own form: three tokens against two, beside the mean of each."""
    model, reference = _model(), _model()
    with torch.no_grad():
        for p in model.parameters():
            p *= 1.1
    pairs = [RenderedPair(ROWS[0], ROWS[1])]
    ours, theirs, lengths = _means(model), _means(reference), _answers(model)[1]
    kept = reference_logprobs(reference, pairs, Ranks())
    for normalised, weights in ((True, torch.ones(2)), (False, lengths)):
        objective = DpoObjective(model, pairs, kept, DpoSettings(1, 0.3, 0.5, normalised), seed=0)
        chosen, rejected = ((ours - theirs) * weights).tolist()
        expected = math.log(1 + math.exp(-0.3 * (chosen - rejected))) - 0.5 * float(ours[0])
        assert objective.backward(0, Ranks()).loss == pytest.approx(expected, rel=1e-5)


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1]])
    found = advantages(rewards)
    assert found[0].tolist() == pytest.approx([1.0, -1.0, -1.0, 1.0])
    assert found[1].tolist() == [0.0] * 4
    assert advantages(rewards[:, :3])[1].tolist() == [0.0] * 3  # three times 0.1, whose mean in binary is another number
    assert advantages(rewards, 0.1)[0].tolist() == pytest.approx([0.5 / 0.6, -0.5 / 0.6, -0.5 / 0.6, 0.5 / 0.6])


def test_grpo_scores_at_the_temperature_that_it_samples_at() -> None:
    """Policy and reference are those that the answers were drawn from: softmax of the logits over the temperature."""
    model, reference = _model(), _model()
    with torch.no_grad():
        for p in model.parameters():
            p *= 1.1
    tokens_BT, labels_BT = pad(ROWS, 1)
    hot = torch.log_softmax(model.logits(model.hidden(tokens_BT)).float() / 0.5, dim=-1)
    picked = hot.gather(2, labels_BT.clamp(min=0)[..., None])[..., 0].masked_fill(labels_BT == IGNORE, 0.0)
    assert torch.allclose(token_logprobs(model, tokens_BT, labels_BT, 0.5), picked, atol=1e-6)
    # With one group of equal rewards all that is left of the loss is the KL term, and it is of the hot distributions.
    settings = replace(SETTINGS, prompts=1, samples=2, temperature=0.5, kl=1.0)
    state = TrainState.fresh(model, Optim(lr=0.1))
    state.frozen["reference"] = reference
    tokenizer = Tokenizer.train(["a b c " * 50], 300)
    objective = GrpoObjective(state, LanguageModel(model, tokenizer, chat=True), [], settings, seed=1)
    with torch.no_grad():
        r_BT = token_logprobs(reference, tokens_BT, labels_BT, 0.5) - picked
        expected = float((r_BT.exp() - r_BT - 1).sum())
    zeros_B, done_B = torch.zeros(2), torch.ones(2, dtype=torch.bool)
    roll_out = RollOut(0, tokens_BT, labels_BT, zeros_B, done_B, zeros_B, r_BT + picked.detach())
    assert objective.learn(roll_out).loss == pytest.approx(expected, rel=1e-5)


def test_on_policy_the_gradient_is_reinforce() -> None:
    new = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    advantage = torch.tensor([2.0, -1.0])
    loss, _ = grpo_token_loss(new, new.detach(), new.detach(), advantage, SETTINGS)
    loss.sum().backward()
    assert new.grad is not None
    assert new.grad.tolist() == [[-2.0, -2.0], [1.0, 1.0]]


def test_the_ratio_is_clipped_on_both_sides_and_kl_is_k3() -> None:
    old = torch.zeros(1, 2)
    new = torch.tensor([[math.log(1.5), math.log(0.5)]], requires_grad=True)
    loss, k3 = grpo_token_loss(new, old, old, torch.tensor([1.0]), SETTINGS)
    assert loss[0].tolist() == pytest.approx([-1.28, -0.5])  # too high is cut at 1.28, too low still pulls up
    loss.sum().backward()
    assert new.grad is not None
    assert new.grad[0].tolist() == pytest.approx([0.0, -0.5])
    assert k3[0].tolist() == pytest.approx([1 / 1.5 - 1 + math.log(1.5), 2 - 1 - math.log(2)], abs=1e-6)


@pytest.mark.parametrize(("epochs", "mini_batches", "steps"), [(1, 1, 25), (2, 2, 50)])
def test_grpo_learns_what_is_rewarded(epochs: int, mini_batches: int, steps: int) -> None:
    """A policy that is paid for low token ids comes to say them, by one update a roll-out or by four."""
    tokenizer = Tokenizer.train(["a b c " * 50], 300)
    config = Model(vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, mlp_hidden=24, max_seq_len=32, init_std=0.1)
    model = Transformer(config).initialise(1)
    policy = LanguageModel(model, tokenizer, chat=True)
    settings = GrpoSettings(2, 16, 1.0, 4, clip_low=0.2, clip_high=0.28, kl=0.0, epochs=epochs, mini_batches=mini_batches)
    prompts = [Prompt([9, 10], lambda ids, finished: float(ids[0] < 150))]
    state = TrainState.fresh(model, Optim(lr=0.03))
    state.frozen["reference"] = copy_parameters(model)
    objective = GrpoObjective(state, policy, prompts, settings, seed=1)
    rewards = []
    for step in range(steps):
        state.optimizer.zero()
        sums = objective.backward(step, Ranks())
        state.optimizer.clip(sums.weight, 1.0)
        state.optimizer.update(0.03)
        rewards.append(sums.extra["reward"][0] / sums.extra["reward"][1])
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.3
