"""PPO as an objective: roll out, score, and update policy and value model. Shapes: B rows of this rank, T columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.answers import Prompt, logprobs, reported
from lehr.post.moments import moments
from lehr.post.ppo import (
    PpoSettings,
    clipped_tokens,
    divergence,
    generalised_advantages,
    policy_token_loss,
    token_rewards,
    value_token_loss,
    whitened,
)
from lehr.post.rewards.scored import scored
from lehr.post.roll_out_objective import RollOutObjective
from lehr.post.rollout import RollOut, RollOuts
from lehr.post.unpadded import real_tokens, unpadded_logprobs, unpadded_values
from lehr.runtime.ports import Sampler
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE
from lehr.train.state import TrainState
from lehr.train.step_times import backpropagate

VALUE, COEFFICIENT = "value", "kl_coefficient"


@dataclass(frozen=True)
class PpoRollOut(RollOut):
    """A roll-out with what PPO learns from: each token's advantage (whitened over the whole roll-out), its return, and its
    value at the roll-out. The other columns are the roll-out's numbers for the log: each answer's divergence in nats, and
    the coefficient and the values' explained variance, which are alike in all rows."""

    token_advantages_BT: Tensor | None = None
    returns_BT: Tensor | None = None
    values_BT: Tensor | None = None
    answer_kl_B: Tensor | None = None
    coefficient_B: Tensor | None = None
    explained_B: Tensor | None = None


class PpoObjective(RollOutObjective):
    """Each token's loss is a mean over the answers' tokens of a step, for policy and value model alike.

    The state's model is trained and samples as `policy`; its trained `value` is the critic; its frozen `reference` anchors the
    divergence; The coefficient
    of the divergence is carried in the state.
    """

    settings: PpoSettings
    extras: tuple[str, ...] = (
        "reward", "kl", "answer_kl", COEFFICIENT, "explained_variance", "clipped", "response_tokens", "unfinished",
    )  # fmt: skip

    def __init__(
        self,
        state: TrainState,
        policy: LanguageModel,
        prompts: Sequence[Prompt],
        settings: PpoSettings,
        seed: int,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(policy, prompts, settings, seed, sampler)
        self.state = state
        self.reference, self.value = state.named("reference", Transformer), state.named(VALUE, ScalarModel)
        state.carried.setdefault(COEFFICIENT, torch.tensor(settings.kl.initial, dtype=torch.float64))
        self.roll_outs = RollOuts(state, self.draw, PpoRollOut, settings.updates, seed)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        return self.learn(self.roll_outs.rows(step, ranks).to(self.policy.device))

    def learn(self, r: PpoRollOut) -> Sums:
        """Backpropagate both losses of these rows."""
        if not len(r):  # there are fewer rows than ranks
            return Sums(0.0, 0.0, 0, dict.fromkeys(self.extras, (0.0, 0.0)), {VALUE: (0.0, 0.0)})
        assert r.old_BT is not None and r.token_advantages_BT is not None
        answer_BT = r.labels_BT != IGNORE
        new_BT = unpadded_logprobs(self.policy.model, r.tokens_BT, r.labels_BT, self.settings.temperature)
        loss_BT = policy_token_loss(new_BT, r.old_BT, r.token_advantages_BT, self.settings.clip)
        total = (loss_BT * answer_BT).sum()
        backpropagate(total)
        extra = self._extra(r, new_BT.detach(), answer_BT)
        models = {VALUE: self.learn_values(r)}
        return Sums(float(total.detach()), float(answer_BT.sum()), real_tokens(r.labels_BT), extra, models)

    def learn_values(self, r: PpoRollOut) -> tuple[float, float]:
        """Backpropagate the value model's loss of these rows; returns it and its weight."""
        assert r.values_BT is not None and r.returns_BT is not None
        s, answer_BT = self.settings, r.labels_BT != IGNORE
        loss_BT = value_token_loss(
            unpadded_values(self.value, r.tokens_BT, r.labels_BT), r.values_BT, r.returns_BT, s.value_clip
        )
        total = s.value_coefficient * (loss_BT * answer_BT).sum()
        backpropagate(total)
        return float(total.detach()), float(answer_BT.sum())

    def _extra(self, r: PpoRollOut, new_BT: Tensor, answer_BT: Tensor) -> dict[str, tuple[float, float]]:
        assert r.old_BT is not None and r.token_advantages_BT is not None and r.answer_kl_B is not None
        assert r.coefficient_B is not None and r.explained_B is not None
        tokens, n = float(answer_BT.sum()), float(len(r))
        held_BT = clipped_tokens(new_BT, r.old_BT, r.token_advantages_BT, self.settings.clip) & answer_BT
        return {
            "kl": (float((divergence(new_BT, r.reference_BT, "k3") * answer_BT).sum()), tokens),
            "answer_kl": (float(r.answer_kl_B.sum()), n),
            COEFFICIENT: (float(r.coefficient_B.sum()), n),
            "explained_variance": (float(r.explained_B.sum()), n),
            "clipped": (float(held_BT.sum()), tokens),
            **self.said(r, r.old_BT, answer_BT),
        }

    def draw(self, number: int, step: int, ranks: Ranks) -> PpoRollOut:
        """This rank's part of roll-out `number`: answers to its share of the prompts. A collective."""
        s = self.settings
        own, tokens_BT, labels_BT = self.answers(number, step, ranks)
        drawn = PpoRollOut(
            step, tokens_BT, labels_BT, scored(own, s.rewards, ranks), own.finished_B,
            own.rewards_B.new_zeros(len(own.rows)),
            logprobs(self.reference, tokens_BT, labels_BT, s.temperature),
            logprobs(self.policy.model, tokens_BT, labels_BT, s.temperature), reported(self.sampler, labels_BT),
            values_BT=_values(self.value, tokens_BT, labels_BT),
        )  # fmt: skip
        return self.judged(drawn, ranks)

    def judged(self, drawn: PpoRollOut, ranks: Ranks) -> PpoRollOut:
        """The roll-out with advantages, returns and the numbers for the log; moves the coefficient on. A collective."""
        s, r = self.settings, drawn.to(self.policy.device)
        assert r.old_BT is not None and r.values_BT is not None
        answer_BT, coefficient = r.labels_BT != IGNORE, float(self.state.carried[COEFFICIENT])
        kl_BT = torch.where(answer_BT, divergence(r.old_BT, r.reference_BT, s.kl_estimator), 0.0)
        rewards_BT = token_rewards(r.rewards_B, kl_BT, answer_BT, coefficient)
        advantages_BT, returns_BT = generalised_advantages(rewards_BT, r.values_BT, answer_BT, s.gamma, s.gae_lambda)
        kl_B, flat = kl_BT.sum(dim=1), advantages_BT[answer_BT]
        # Of returns - values, which are the advantages before whitening, and of the returns.
        found = moments(ranks, flat, returns_BT[answer_BT], kl_B)
        (_, mean, unexplained), (_, _, spread), (answers, answer_kl, _) = found
        self.state.carried[COEFFICIENT] = torch.tensor(s.kl.next(coefficient, answer_kl, int(answers)), dtype=torch.float64)
        explained = 1 - unexplained / spread if spread else 0.0
        own = {name: value for name, value in r.tensors().items() if name != "step"}
        return PpoRollOut(r.step, **own | {
            "token_advantages_BT": whitened(advantages_BT, answer_BT, mean, unexplained) if s.whitened else advantages_BT,
            "returns_BT": returns_BT, "answer_kl_B": kl_B, "coefficient_B": torch.full_like(kl_B, coefficient),
            "explained_B": torch.full_like(kl_B, explained),
        })  # fmt: skip


@torch.no_grad()
def _values(model: ScalarModel, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """The value before each label's token, 0 elsewhere."""
    return unpadded_values(model, tokens_BT, labels_BT) * (labels_BT != IGNORE)
