"""What objectives share that learn from answers which they sample themselves: GRPO, PPO and BRAIn. Shapes: B samples of this
rank, T columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.post.answers import Answers, Prompt, Sampled, answered, difference
from lehr.post.batches import rows_of_step
from lehr.post.rollout import RollOut, Updates
from lehr.post.sft import pad
from lehr.runtime import seeds
from lehr.runtime.ports import Sampler
from lehr.runtime.reporting_sampler import ReportingSampler


class RollOutSettings(Sampled, Protocol):
    """How answers are sampled, and how often they are used."""

    @property
    def updates(self) -> Updates: ...


class RollOutObjective:
    """Prompts, who answers them, and what every such objective logs. `policy` samples, unless there is another `sampler`."""

    extras: tuple[str, ...] = ()
    settings: RollOutSettings  # a subclass says which

    def __init__(
        self, policy: LanguageModel, prompts: Sequence[Prompt], settings: RollOutSettings, seed: int, sampler: Sampler | None
    ) -> None:
        self.policy, self.prompts, self.settings, self.seed = policy, prompts, settings, seed
        self.sampler = sampler or policy
        if isinstance(self.sampler, ReportingSampler):
            self.extras = (*self.extras, "sampler_difference")

    def answers(self, number: int, step: int, ranks: Ranks) -> tuple[Answers, Tensor, Tensor]:
        """This rank's answers of roll-out `number`, to its share of the prompts; their inputs and labels, (B, T)."""
        s, seed = self.settings, seeds.derive(self.seed, "rollout", number, ranks.rank)  # by rank: else samples correlate
        chosen = ranks.split(rows_of_step(number, s.updates.prompts, len(self.prompts), self.seed).tolist())
        self.sampler.follow(step)
        own = answered(self.sampler, self.policy.tokenizer, [self.prompts[i] for i in chosen], s, seed)
        return own, *pad(own.rows, self.policy.tokenizer.pad_id, self.policy.device)

    def said(self, r: RollOut, old_BT: Tensor, answer_BT: Tensor) -> dict[str, tuple[float, float]]:
        """Of the answers themselves, for the log: sums and counts. `old_BT`: the trainer's log-probabilities under the policy
        that answered."""
        n = float(len(r))
        found = {
            "reward": (float(r.rewards_B.sum()), n),
            "response_tokens": (float(answer_BT.sum()), n),
            "unfinished": (n - float(r.finished_B.sum()), n),
        }
        if "sampler_difference" in self.extras:
            found["sampler_difference"] = difference(old_BT, r.sampled_BT, answer_BT)
        return found
