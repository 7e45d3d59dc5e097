"""BRAIn (Pandey et al. 2024; Granite 3.0 section 5.3.2): the policy comes near the posterior, its reference reweighed by the
reward, on samples of a proposal: an earlier policy, renewed every so many steps. Shapes: B answers of this rank, T columns; P
prompts, S answers each.

The posterior is that of Granite 3.0 equation 10, p(y|x) = reference(y|x) exp(reward / beta) / Z. Over a prompt's samples y_1 ..
y_S of the proposal q, with self-normalised weights,
    a_i = softmax_i(reward_i / beta + log reference(y_i) - log q(y_i))     of the posterior,
    b_i = softmax_i(log policy(y_i) - log q(y_i))                          of the policy,
the loss is KL(a || b), whose gradient is -sum_i (a_i - b_i) grad log policy(y_i): an answer is learned only as far as the
posterior weighs it more than the policy itself does. Without that baseline the loss is -sum_i a_i log policy(y_i), the
posterior's cross entropy: another estimator of the same gradient. The first has less variance where the proposal is fresh, and
none where the policy is the posterior; far from the proposal it has more (tests/post/test_brain.py measures both)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.answers import Prompt, logprobs, reported
from lehr.post.rewards.scored import NONE, Rewards, scored
from lehr.post.roll_out_objective import RollOutObjective
from lehr.post.rollout import RollOut, RollOuts, Updates
from lehr.post.unpadded import real_tokens, unpadded_logprobs
from lehr.runtime.ports import Sampler
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE
from lehr.train.state import TrainState
from lehr.train.step_times import backpropagate


@dataclass(frozen=True)
class BrainSettings:
    """`prompts` of an update; a proposal's samples serve `refresh` updates. Rewards are divided by `beta`. Log-probabilities of
    policy, reference and proposal are taken at the sampling `temperature`, as the weights are those of what was sampled.
    `rewards` are added to the verifiers' word."""

    prompts: int
    samples: int
    temperature: float
    max_new_tokens: int
    beta: float
    refresh: int
    baseline: bool = True
    rewards: Rewards = NONE

    @property
    def updates(self) -> Updates:
        """Every prompt of a proposal's samples is used once."""
        return Updates(self.prompts * self.refresh, self.samples, 1, self.refresh)


def posterior(rewards_PS: Tensor, reference_PS: Tensor, proposal_PS: Tensor, beta: float) -> Tensor:
    """log a, (P, S) in fp64. `reference_PS`, `proposal_PS`: log-probabilities of whole answers, in nats."""
    return (rewards_PS.double() / beta + reference_PS.double() - proposal_PS.double()).log_softmax(dim=1)


def brain_loss(new_PS: Tensor, proposal_PS: Tensor, log_a_PS: Tensor, baseline: bool = True) -> tuple[Tensor, Tensor]:
    """The sum of the prompts' losses, and log b, (P, S), without gradient. `new_PS`: the policy's log-probabilities of whole
    answers."""
    new_PS = new_PS.double()
    log_b_PS = (new_PS - proposal_PS.double()).log_softmax(dim=1)
    a_PS = log_a_PS.exp()
    loss = (a_PS * (log_a_PS - log_b_PS)).sum() if baseline else -(a_PS * new_PS).sum()
    return loss, log_b_PS.detach()


def effective_samples(log_weights_PS: Tensor) -> Tensor:
    """1 / sum of squared weights of each prompt, (P): S where all weigh alike, 1 where one answer has all the weight."""
    return (-(2 * log_weights_PS).logsumexp(dim=1)).exp()


class BrainObjective(RollOutObjective):
    """Sample a proposal's answers, reward them, and learn; the loss is a mean over prompts (`weight`).

    The state's model is trained, `policy` samples from it, the state's frozen `reference` is the prior.
    """

    settings: BrainSettings
    extras: tuple[str, ...] = (
        "reward", "kl", "posterior_kl", "posterior_samples", "policy_samples", "response_tokens", "unfinished",
    )  # fmt: skip

    def __init__(
        self,
        state: TrainState,
        policy: LanguageModel,
        prompts: Sequence[Prompt],
        settings: BrainSettings,
        seed: int,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(policy, prompts, settings, seed, sampler)
        self.reference = state.named("reference", Transformer)
        self.roll_outs = RollOuts(state, self.draw, RollOut, settings.updates, seed)

    def backward(self, step: int, ranks: Ranks) -> Sums:
        return self.learn(self.roll_outs.rows(step, ranks).to(self.policy.device))

    def learn(self, r: RollOut) -> Sums:
        """Backpropagate the loss of these rows, which are all answers to their prompts."""
        if not len(r):  # there are fewer prompts than ranks
            return Sums(0.0, 0.0, 0, dict.fromkeys(self.extras, (0.0, 0.0)))
        assert r.old_BT is not None
        s, answer_BT = self.settings, r.labels_BT != IGNORE
        new_BT = unpadded_logprobs(self.policy.model, r.tokens_BT, r.labels_BT, s.temperature)
        reference_PS, proposal_PS, new_PS = (
            (each_BT.double() * answer_BT).sum(dim=1).view(-1, s.samples) for each_BT in (r.reference_BT, r.old_BT, new_BT)
        )
        log_a_PS = posterior(r.rewards_B.view(-1, s.samples), reference_PS, proposal_PS, s.beta)
        loss, log_b_PS = brain_loss(new_PS, proposal_PS, log_a_PS, s.baseline)
        backpropagate(loss)
        prompts = float(len(new_PS))
        ratio_BT = (r.reference_BT - new_BT.detach()) * answer_BT
        extra = {
            "kl": (float((ratio_BT.exp() - ratio_BT - 1).sum()), float(answer_BT.sum())),
            "posterior_kl": (float((log_a_PS.exp() * (log_a_PS - log_b_PS)).sum()), prompts),
            "posterior_samples": (float(effective_samples(log_a_PS).sum()), prompts),
            "policy_samples": (float(effective_samples(log_b_PS).sum()), prompts),
            **self.said(r, r.old_BT, answer_BT),
        }
        return Sums(float(loss.detach()), prompts, real_tokens(r.labels_BT), extra)

    def draw(self, number: int, step: int, ranks: Ranks) -> RollOut:
        """This rank's answers of proposal `number` to its share of the prompts."""
        s = self.settings
        own, tokens_BT, labels_BT = self.answers(number, step, ranks)
        return RollOut(
            step, tokens_BT, labels_BT, scored(own, s.rewards, ranks),
            own.finished_B, torch.zeros(len(own.rows)), logprobs(self.reference, tokens_BT, labels_BT, s.temperature),
            logprobs(self.policy.model, tokens_BT, labels_BT, s.temperature), reported(self.sampler, labels_BT),
        )  # fmt: skip
