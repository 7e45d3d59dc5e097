"""GRPO as it was while a roll-out was for one update: what the present one must equal in that case, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.post.batches import rows_of_step
from lehr.post.grpo import GrpoSettings, Prompt, advantages, grpo_token_loss
from lehr.post.rendered import Rendered
from lehr.post.sft import pad
from lehr.runtime import seeds
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, token_logprobs


class SingleUpdate:
    extras: tuple[str, ...] = ("reward", "kl", "response_tokens", "unfinished")

    def __init__(
        self, policy: LanguageModel, reference: Transformer, prompts: Sequence[Prompt], settings: GrpoSettings, seed: int
    ) -> None:
        self.policy, self.reference, self.prompts, self.settings, self.seed = policy, reference, prompts, settings, seed

    def backward(self, step: int, ranks: Ranks) -> Sums:
        s, pad_id = self.settings, self.policy.tokenizer.pad_id
        chosen = ranks.split(rows_of_step(step, s.prompts, len(self.prompts), self.seed).tolist())
        prompts = [self.prompts[i] for i in chosen]
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
        answers = self.policy.generate([p.ids for p in repeated], s.max_new_tokens, [eos], s.temperature, seed)
        rows, rewards, unfinished = [], [], 0
        for prompt, answer in zip(repeated, answers, strict=True):
            finished = bool(answer) and answer[-1] == eos
            unfinished += not finished
            rewards.append(prompt.reward(answer, finished))
            rows.append(Rendered(prompt.ids + answer, [False] * len(prompt.ids) + [True] * len(answer)))
        return rows, torch.tensor(rewards, dtype=torch.float32).view(len(prompts), s.samples), unfinished
