"""Answers to prompts: sampled, rewarded, and scored by the trainer. Shapes: B samples of this rank, T columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lehr.data.tokenizer import Tokenizer
from lehr.model.transformer import Transformer
from lehr.post.chat import turn_end_id
from lehr.post.rendered import Rendered
from lehr.post.unpadded import unpadded_logprobs
from lehr.runtime.ports import Sampler
from lehr.runtime.reporting_sampler import ReportingSampler
from lehr.train.losses import IGNORE


@dataclass(frozen=True)
class Prompt:
    """A question as token ids, and `reward(response ids, finished) -> float`, its verifier bound to the correct answer."""

    ids: list[int]
    reward: Callable[[list[int], bool], float]


class Sampled(Protocol):
    """How a roll-out is sampled: samples of each prompt, temperature and limit of new tokens."""

    @property
    def samples(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...


@dataclass(frozen=True)
class Answers:
    """Prompts with their answers as rows, prompt by prompt; each answer's reward, and whether it ended by itself, (B)."""

    rows: list[Rendered]
    rewards_B: Tensor
    finished_B: Tensor


def answered(sampler: Sampler, tokenizer: Tokenizer, prompts: Sequence[Prompt], s: Sampled, seed: int) -> Answers:
    """Answers of `sampler` to each prompt, rewarded by the prompt's own verifier."""
    end = turn_end_id(tokenizer)
    repeated = [p for p in prompts for _ in range(s.samples)]
    found = sampler.generate([p.ids for p in repeated], s.max_new_tokens, [end], s.temperature, seed)
    finished = [bool(answer) and answer[-1] == end for answer in found]
    rewards = [p.reward(answer, ended) for p, answer, ended in zip(repeated, found, finished, strict=True)]
    rows = [
        Rendered(p.ids + answer, [False] * len(p.ids) + [True] * len(answer)) for p, answer in zip(repeated, found, strict=True)
    ]
    return Answers(rows, torch.tensor(rewards, dtype=torch.float32), torch.tensor(finished, dtype=torch.bool))


@torch.no_grad()
def logprobs(model: Transformer, tokens_BT: Tensor, labels_BT: Tensor, temperature: float) -> Tensor:
    """`unpadded_logprobs` without gradient."""
    return unpadded_logprobs(model, tokens_BT, labels_BT, temperature)


def reported(sampler: Sampler, labels_BT: Tensor) -> Tensor | None:
    """The sampler's own log-probabilities of the answers at the places of their labels, NaN where it has none; None for a
    sampler that reports none at all."""
    if not isinstance(sampler, ReportingSampler):
        return None
    found_BT = torch.full(labels_BT.shape, float("nan"), device=labels_BT.device)
    reported = sampler.sampled_logprobs()
    if reported is not None and len(labels_BT):
        flat = [value for row in reported for value in row]
        found_BT[labels_BT != IGNORE] = torch.tensor(flat, device=labels_BT.device)  # both row by row, from left to right
    return found_BT


def difference(trainer_BT: Tensor, sampled_BT: Tensor | None, answer_BT: Tensor) -> tuple[float, float]:
    """Sum over the answers' tokens of |trainer's - sampler's log-probability|, both of the policy that answered, and their
    number."""
    if sampled_BT is None:
        return 0.0, 0.0
    known_BT = answer_BT & sampled_BT.isfinite()
    return float((trainer_BT - sampled_BT).abs()[known_BT].sum()), float(known_BT.sum())
