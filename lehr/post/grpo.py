"""GRPO with verifiable rewards (Shao et al. 2024; OLMo 2 section 5.3, RLVR): several samples a prompt, the advantage is
what a sample's reward exceeds its own group's mean by. Shapes: B samples of this rank, T columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr import seeds
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.ports import Sampler
from lehr.post.sft import Rendered, pad, rows_of_step
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, token_logprobs
from lehr.train.parallel import Ranks


@dataclass(frozen=True)
class Prompt:
    """A question as token ids, and `reward(response ids, finished) -> float`, its verifier bound to the right answer."""

    ids: list[int]
    reward: Callable[[list[int], bool], float]


@dataclass(frozen=True)
class GrpoSettings:
    """`clip_low`/`clip_high` bound the ratio (asymmetric as in DAPO, Yu et al. 2025); `kl` weighs the k3 estimate."""

    prompts: int
    samples: int
    temperature: float
    max_new_tokens: int
    clip_low: float
    clip_high: float
    kl: float


def advantages(rewards_PS: Tensor) -> Tensor:
    """(reward - group mean) / (group std + 0.1), shape (prompts, samples). The 0.1 keeps a group that differs in one
    lucky sample from an advantage of sqrt(samples)."""
    centred = rewards_PS - rewards_PS.mean(dim=1, keepdim=True)
    return centred / (rewards_PS.std(dim=1, keepdim=True, unbiased=False) + 0.1)


def grpo_token_loss(
    new_BT: Tensor, old_BT: Tensor, reference_BT: Tensor, advantage_B: Tensor, s: GrpoSettings
) -> tuple[Tensor, Tensor]:
    """Clipped policy-gradient loss plus kl times k3 = exp(r) - r - 1 with r = reference - new (Schulman 2020), per token,
    and the k3 itself: both (B, T)."""
    ratio_BT = (new_BT - old_BT).exp()
    a_B1 = advantage_B[:, None]
    gain_BT = torch.minimum(ratio_BT * a_B1, ratio_BT.clamp(1 - s.clip_low, 1 + s.clip_high) * a_B1)
    r_BT = reference_BT - new_BT
    k3_BT = r_BT.exp() - r_BT - 1
    return -gain_BT + s.kl * k3_BT, k3_BT


class GrpoObjective:
    """Roll out, verify, and take one policy-gradient step; the mean is over response tokens (`weight`)."""

    extras: tuple[str, ...] = ("reward", "kl", "response_tokens", "unfinished")

    def __init__(
        self,
        policy: LanguageModel,
        reference: Transformer,
        prompts: Sequence[Prompt],
        settings: GrpoSettings,
        seed: int,
        sampler: Sampler | None = None,
    ) -> None:
        self.sampler = sampler or policy
        self.policy, self.reference, self.prompts, self.settings, self.seed = policy, reference, prompts, settings, seed

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s, pad_id = self.settings, self.policy.tokenizer.pad_id
        chosen = ranks.split(rows_of_step(step, s.prompts, len(self.prompts), self.seed).tolist())
        prompts = [self.prompts[i] for i in chosen]
        self.sampler.follow(step)
        rows, rewards_PS, unfinished = self._roll_out(prompts, seeds.derive(self.seed, "rollout", step, ranks.rank))
        tokens_BT, labels_BT = pad(rows, pad_id, self.policy.device)
        with torch.no_grad():
            reference_BT = token_logprobs(self.reference, tokens_BT, labels_BT)
        new_BT = token_logprobs(self.policy.model, tokens_BT, labels_BT)
        advantages_B = advantages(rewards_PS).reshape(-1).to(new_BT.device)
        # One update per roll-out: the old policy is this one, so the ratio is 1 and only its gradient counts.
        loss_BT, k3_BT = grpo_token_loss(new_BT, new_BT.detach(), reference_BT, advantages_B, s)
        answer_BT = labels_BT != IGNORE
        total = (loss_BT * answer_BT).sum()
        total.backward()  # type: ignore[no-untyped-call]
        tokens, n = float(answer_BT.sum()), float(len(rows))
        extra = {
            "reward": (float(rewards_PS.sum()), n),
            "kl": (float((k3_BT.detach() * answer_BT).sum()), tokens),
            "response_tokens": (tokens, n),
            "unfinished": (float(unfinished), n),
        }
        return Sums(float(total.detach()), tokens, tokens_BT.numel(), extra)

    def _roll_out(self, prompts: Sequence[Prompt], seed: int) -> tuple[list[Rendered], Tensor, int]:
        """Sampled answers as rows, prompt-major; rewards (prompts, samples); how many never ended."""
        s, eos = self.settings, self.policy.tokenizer.eos_id
        repeated = [p for p in prompts for _ in range(s.samples)]
        answers = self.sampler.generate([p.ids for p in repeated], s.max_new_tokens, [eos], s.temperature, seed)
        rows, rewards, unfinished = [], [], 0
        for prompt, answer in zip(repeated, answers, strict=True):
            finished = bool(answer) and answer[-1] == eos
            unfinished += not finished
            rewards.append(prompt.reward(answer, finished))
            rows.append(Rendered(prompt.ids + answer, [False] * len(prompt.ids) + [True] * len(answer)))
        return rows, torch.tensor(rewards, dtype=torch.float32).view(len(prompts), s.samples), unfinished
