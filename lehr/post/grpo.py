"""GRPO with verifiable rewards (Shao et al. 2024; OLMo 2 section 5, RLVR): several samples for each prompt; a sample's
advantage is its reward minus the mean of its group. Shapes: B samples of this rank, T columns; P prompts, S samples each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.answers import Prompt as Prompt
from lehr.post.answers import logprobs, reported
from lehr.post.roll_out_objective import RollOutObjective
from lehr.post.rollout import RollOut, RollOuts, Updates
from lehr.post.unpadded import real_tokens, unpadded_logprobs
from lehr.runtime.ports import Sampler
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE
from lehr.train.state import TrainState
from lehr.train.step_times import backpropagate


@dataclass(frozen=True)
class GrpoSettings:
    """`clip_low`/`clip_high` bound the ratio (asymmetric as in DAPO, Yu et al. 2025); `kl` weighs the k3 estimate. `epochs` and
    `mini_batches`: see Updates; `epsilon`: see advantages. Log-probabilities of policy and reference are taken at the sampling
    `temperature`: at any other, the first update's ratio would not be 1."""

    prompts: int
    samples: int
    temperature: float
    max_new_tokens: int
    clip_low: float
    clip_high: float
    kl: float
    epochs: int = 1
    mini_batches: int = 1
    epsilon: float = 1e-8

    @property
    def updates(self) -> Updates:
        """How often a roll-out is used. Raises UserError as Updates does."""
        return Updates(self.prompts, self.samples, self.epochs, self.mini_batches)


def advantages(rewards_PS: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(reward - group mean) / (group's population std + epsilon), shape (prompts, samples); 0 in a group of equal rewards.

    OLMo 2's code adds 1e-8. A larger epsilon keeps the single successful sample of a group of S from an advantage of about
    sqrt(S).
    """
    exact_PS = rewards_PS.double()  # in fp32 the mean of equal rewards can differ from them, and / 1e-8 would magnify the error
    centred = exact_PS - exact_PS.mean(dim=1, keepdim=True)
    found = centred / (exact_PS.std(dim=1, keepdim=True, unbiased=False) + epsilon)
    equal_P1 = (exact_PS == exact_PS[:, :1]).all(dim=1, keepdim=True)
    return found.masked_fill(equal_P1, 0.0).float()


def grpo_token_loss(
    new_BT: Tensor, old_BT: Tensor, reference_BT: Tensor, advantage_B: Tensor, s: GrpoSettings
) -> tuple[Tensor, Tensor]:
    """Clipped policy-gradient loss plus kl times k3 = exp(r) - r - 1 with r = reference - new (Schulman 2020), per token,
    and the k3 itself: both (B, T)."""
    ratio_BT = (new_BT - old_BT).exp()
    a_B1 = advantage_B[:, None]
    # The minimum, so that clipping only ever removes gain: a ratio that moved against the advantage keeps its full gradient.
    gain_BT = torch.minimum(ratio_BT * a_B1, ratio_BT.clamp(1 - s.clip_low, 1 + s.clip_high) * a_B1)
    r_BT = reference_BT - new_BT
    k3_BT = r_BT.exp() - r_BT - 1
    return -gain_BT + s.kl * k3_BT, k3_BT


def clipped(new_BT: Tensor, old_BT: Tensor, advantage_B: Tensor, s: GrpoSettings) -> Tensor:
    """Where the clip has removed the gradient, because the ratio has moved as far as allowed in the better direction: (B,
    T)."""
    ratio_BT, better_B1 = (new_BT - old_BT).exp(), advantage_B[:, None] > 0
    worse_B1 = advantage_B[:, None] < 0
    return (better_B1 & (ratio_BT > 1 + s.clip_high)) | (worse_B1 & (ratio_BT < 1 - s.clip_low))


class GrpoObjective(RollOutObjective):
    """Roll out, verify, and make one or more policy-gradient updates; the mean is over response tokens (`weight`).

    The state's model is trained, `policy` samples from it, and the state's frozen `reference` anchors the KL term.
    """

    settings: GrpoSettings
    extras: tuple[str, ...] = ("reward", "kl", "response_tokens", "unfinished")

    def __init__(
        self,
        state: TrainState,
        policy: LanguageModel,
        prompts: Sequence[Prompt],
        settings: GrpoSettings,
        seed: int,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(policy, prompts, settings, seed, sampler)
        self.reference = state.named("reference", Transformer)
        self.several = settings.updates.count > 1
        if self.several:
            self.extras = (*self.extras, "clipped")
        self.roll_outs = RollOuts(state, self.draw, RollOut, settings.updates, seed)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        return self.learn(self.roll_outs.rows(step, ranks).to(self.policy.device))

    def learn(self, r: RollOut) -> Sums:
        """Backpropagate the loss of these rows."""
        if not len(r):  # there are fewer rows than ranks
            return Sums(0.0, 0.0, 0, dict.fromkeys(self.extras, (0.0, 0.0)))
        new_BT = unpadded_logprobs(self.policy.model, r.tokens_BT, r.labels_BT, self.settings.temperature)
        # With one update for each roll-out the old policy is the present one: the ratio is 1, but its gradient is not 0.
        old_BT = new_BT.detach() if r.old_BT is None else r.old_BT
        loss_BT, k3_BT = grpo_token_loss(new_BT, old_BT, r.reference_BT, r.advantages_B, self.settings)
        answer_BT = r.labels_BT != IGNORE
        total = (loss_BT * answer_BT).sum()
        backpropagate(total)
        tokens = float(answer_BT.sum())
        extra = {"kl": (float((k3_BT.detach() * answer_BT).sum()), tokens), **self.said(r, old_BT, answer_BT)}
        if self.several:
            cut_BT = clipped(new_BT.detach(), old_BT, r.advantages_B, self.settings) & answer_BT
            extra["clipped"] = (float(cut_BT.sum()), tokens)
        return Sums(float(total.detach()), tokens, real_tokens(r.labels_BT), extra)

    def draw(self, number: int, step: int, ranks: Ranks) -> RollOut:
        """This rank's part of roll-out `number`: answers to its share of the prompts."""
        s = self.settings
        own, tokens_BT, labels_BT = self.answers(number, step, ranks)
        reference_BT = logprobs(self.reference, tokens_BT, labels_BT, s.temperature)
        old_BT = logprobs(self.policy.model, tokens_BT, labels_BT, s.temperature) if self.several else None
        sampled_BT = reported(self.sampler, labels_BT)
        advantages_B = advantages(own.rewards_B.view(-1, s.samples), s.epsilon).reshape(-1)
        return RollOut(
            step, tokens_BT, labels_BT, own.rewards_B, own.finished_B, advantages_B, reference_BT, old_BT, sampled_BT
        )  # fmt: skip
