"""Roll-outs that are for one update, or for several, with a ratio that is clipped."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks, run_ranks
from lehr.model.generate import LanguageModel
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.batches import rows_of_step
from lehr.post.grpo import GrpoObjective, GrpoSettings
from lehr.post.rollout import RollOut, Updates
from lehr.runtime.errors import Bug, UserError
from lehr.train.loop import Objective
from lehr.train.losses import IGNORE
from lehr.train.state import Restored, TrainState
from tests.post import training
from tests.post.single_update import SingleUpdate


def grpo(state: TrainState, policy: LanguageModel, **changes: int) -> GrpoObjective:
    return GrpoObjective(state, policy, training.prompts(), training.settings(**changes), seed=3)


def single_update(state: TrainState, policy: LanguageModel) -> Objective:
    reference = Transformer(policy.model.config)
    reference.load_state_dict(policy.model.state_dict())
    return SingleUpdate(policy, reference, training.prompts(), training.SETTINGS, seed=3)


def both_on_ranks(ranks: Ranks, folder: Path) -> tuple[Tensor, Tensor]:
    old, old_rows = training.train(folder / "old", ranks, single_update)
    new, rows = training.train(folder / "new", ranks, grpo)
    assert len(rows) == len(old_rows)
    for row, old_row in zip(rows, old_rows, strict=True):
        assert row.pop("tokens") <= old_row.pop("tokens")  # which were counted with their padding
        assert row == pytest.approx(old_row, rel=1e-5, abs=1e-7)
    assert new.rollout is None
    return training.weights(old), training.weights(new)


@pytest.mark.parametrize("world", [1, 2])
def test_one_update_a_roll_out_gives_what_padded_rows_gave(world: int, tmp_path: Path) -> None:
    """Weights and log of six steps, against the step as it was written when a roll-out was for one update and its rows were
    computed with their padding."""
    old, new = run_ranks(world, 1, both_on_ranks, tmp_path)
    torch.testing.assert_close(old, new, rtol=1e-5, atol=1e-6)
    assert not torch.equal(old, training.weights(training.fresh()[0]))


def by_hand(model: Transformer, r: RollOut, s: GrpoSettings) -> tuple[Tensor, int, int]:
    """(loss, answer tokens, tokens whose ratio the clip holds), token by token."""
    total, tokens, held = torch.zeros(()), 0, 0
    log_p = model(r.tokens_BT).log_softmax(dim=-1)
    for b in range(len(r)):
        a = float(r.advantages_B[b])
        for t, label in enumerate(r.labels_BT[b].tolist()):
            if label == IGNORE:
                continue
            new, old, reference = log_p[b, t, label], float(r.old_BT[b, t]), float(r.reference_BT[b, t])
            ratio = torch.exp(new - old)
            low, high = 1 - s.clip_low, 1 + s.clip_high
            at = float(ratio.detach())
            stopped = (a > 0 and at > high) or (a < 0 and at < low)
            gain = a * (high if a > 0 else low) if stopped else a * ratio
            total = total - gain + s.kl * (torch.exp(reference - new) - (reference - new) - 1)
            tokens, held = tokens + 1, held + stopped
    return total, tokens, held


def test_several_updates_use_the_ratio_to_the_policy_that_answered() -> None:
    """At the second update the ratio is not 1 and the clip holds some of it; loss and gradient are a plain formula's."""
    state, policy = training.fresh()
    objective = grpo(state, policy, epochs=2)
    s, seen = objective.settings, []
    for step in range(2):
        state.optimizer.zero()
        held = state.rollout
        sums = objective.backward(step, Ranks())
        seen.append((held if held is not None else state.rollout, sums, state.whole.flat.grads.clone()))
        if step == 0:
            state.optimizer.clip(sums.weight, 10.0)
            state.optimizer.update(0.05)
    rollout, sums, grads = seen[1]
    assert rollout is seen[0][0] and rollout.step == 0 and state.rollout is None
    assert seen[0][1].extra["clipped"][0] == 0
    state.optimizer.zero()
    loss, tokens, held = by_hand(policy.model, rollout, s)
    loss.backward()
    assert sums.weight == tokens and 0 < held < tokens and sums.extra["clipped"] == (held, tokens)
    assert sums.loss == pytest.approx(float(loss), rel=1e-4)
    torch.testing.assert_close(grads, state.whole.flat.grads, rtol=1e-3, atol=1e-4)


def test_every_epoch_sees_each_row_once_in_pieces_of_whole_prompts() -> None:
    updates = Updates(prompts=6, samples=3, epochs=2, mini_batches=3)
    pieces = [updates.rows(updates.chosen(update, seed=5)) for update in range(updates.count)]
    assert [len(piece) for piece in pieces] == [6] * 6
    for epoch in (pieces[:3], pieces[3:]):
        assert sorted(row for piece in epoch for row in piece) == list(range(18))
    assert pieces[:3] != pieces[3:]
    assert all({row // 3 for row in piece} == {row // 3 for row in piece[::3]} for piece in pieces)
    assert Updates(6, 3).rows(Updates(6, 3).chosen(0, seed=5)) == list(range(18))
    with pytest.raises(UserError, match="cannot be divided into 4 equal mini-batches"):
        Updates(6, 3, mini_batches=4)


def drawn_on_ranks(ranks: Ranks) -> tuple[RollOut, list[RollOut], list[int]]:
    """The whole roll-out on this rank, every rank's rows of its two updates, and when the sampler was asked."""
    state, policy = training.fresh()
    sampler = training.Sampled(policy)
    objective = GrpoObjective(state, policy, training.prompts(), training.settings(mini_batches=2), 3, sampler)
    mine = [objective.roll_outs.rows(0, ranks)]
    whole = state.rollout
    assert isinstance(whole, RollOut)
    mine.append(objective.roll_outs.rows(1, ranks))
    assert state.rollout is None
    shares = [RollOut.from_tensors(rows) for both in ranks.gather([rows.tensors() for rows in mine]) for rows in both]
    return whole, shares, sampler.followed


def _rows(r: RollOut) -> list[tuple[list[int], list[int], float]]:
    """Each row's prompt, answer and reward."""
    out = []
    for tokens, labels, reward in zip(r.tokens_BT.tolist(), r.labels_BT.tolist(), r.rewards_B.tolist(), strict=True):
        first = next(t for t, label in enumerate(labels) if label != IGNORE)
        out.append((tokens[: first + 1], [label for label in labels if label != IGNORE], reward))
    return out


@pytest.mark.parametrize("world", [1, 3])
def test_a_roll_out_is_whole_on_every_rank_and_its_rows_are_shared_out(world: int) -> None:
    """Three ranks draw four prompts, unevenly; an answer is still its prompt's, and every row is trained on once."""
    whole, shares, asked = run_ranks(world, 1, drawn_on_ranks)
    assert asked == [0]
    assert len(whole) == 16 and sum(map(len, shares)) == 16
    prompts = [training.prompts()[i].ids for i in rows_of_step(0, 4, 6, 3)]
    assert [ids for ids, _, _ in _rows(whole)] == [ids for ids in prompts for _ in range(4)]
    assert sorted(_rows(whole)) == sorted(row for share in shares for row in _rows(share))
    restored = RollOut.from_tensors(whole.tensors())
    assert restored.step == 0 and all(torch.equal(restored.tensors()[k], v) for k, v in whole.tensors().items())


def _stops(state: TrainState, policy: LanguageModel, at: int) -> Objective:
    sampler = training.Sampled(policy, at)
    return training.WithValue(state, policy, training.prompts(), training.settings(epochs=2, mini_batches=2), 3, sampler)


def cut_on_ranks(ranks: Ranks, folder: Path) -> int:
    """Stopped where roll-out 1 would be drawn: the newest save is of step 3, with roll-out 0 in it for one more update."""
    with pytest.raises(training.Stop):
        training.train(folder, ranks, partial(_stops, at=4), steps=8, every=3, value=True)
    return 0


def test_another_number_of_ranks_goes_on_with_the_roll_out(tmp_path: Path) -> None:
    """Drawn and saved by two ranks, used up by one: nothing is sampled again, and the losses are the same to rounding."""
    run_ranks(2, 1, cut_on_ranks, tmp_path / "cut")
    followed: list[int] = []

    def make(state: TrainState, policy: LanguageModel) -> Objective:
        objective = _stops(state, policy, at=-1)
        objective.sampler.followed = followed
        return objective

    state, rows = training.train(tmp_path / "cut", Ranks(), make, steps=8, every=3, value=True)
    assert followed == [4] and state.step == 8 and state.rollout is None
    assert [row["step"] for row in rows] == list(range(1, 9))
    cut, whole = rows[3], run_ranks(2, 1, _rows_on_ranks, tmp_path / "whole")[3]
    assert cut.pop("tokens") >= whole.pop("tokens")  # each rank cuts its rows to their longest
    assert cut == pytest.approx(whole, rel=1e-3, abs=1e-6)


def _rows_on_ranks(ranks: Ranks, folder: Path) -> list[dict[str, float]]:
    return training.train(folder, ranks, partial(_stops, at=-1), steps=8, every=3, value=True)[1]


def test_a_roll_out_that_a_rollback_jumped_into_is_drawn_again() -> None:
    """Steps 2 to 5 are left out: step 6 is the third update of roll-out 1, which nobody drew."""
    state, policy = training.fresh()
    sampler = training.Sampled(policy)
    objective = GrpoObjective(state, policy, training.prompts(), training.settings(epochs=4), 3, sampler)
    for step in (0, 1, 6, 7, 8):
        state.optimizer.zero()
        objective.backward(step, Ranks())
        if step == 6:
            state.rollout = Restored(state.rollout.tensors())  # as after a restart
    assert sampler.followed == [0, 6, 8]


def test_models_have_names_and_kinds() -> None:
    state, _ = training.fresh()
    training.with_value(state)
    assert state.named("value", ScalarModel) is state.models["value"].model
    for name in ("reward", "reference"):
        with pytest.raises(Bug, match=f"no ScalarModel is named '{name}'"):
            state.named(name, ScalarModel)
