"""What rewards an answer: reward models, and the contrast of two language models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lehr.artifacts.artifact import Artifact
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Transformer
from lehr.post.packing import one_row
from lehr.post.preference import answer_logprobs
from lehr.post.rendered import Rendered
from lehr.post.rewards.agreement import check_reads
from lehr.post.rewards.rows import all_numbers, groups_of
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.checkpointing.scalar import load_scalar


class Scorer(Protocol):
    """Gives each of any number of conversations that end with an answer a number: higher is better."""

    @property
    def most_tokens(self) -> int: ...

    def scores(self, rows: Sequence[Rendered]) -> Tensor: ...


@dataclass(frozen=True)
class ByModel:
    """A reward model."""

    model: ScalarModel

    @property
    def most_tokens(self) -> int:
        """The longest conversation that it reads."""
        return self.model.config.max_seq_len

    def scores(self, rows: Sequence[Rendered]) -> Tensor:
        """(R,), on the host."""
        return all_numbers(self.model, rows)[:, 0]


@dataclass(frozen=True)
class ByContrast:
    """log p of an answer under the first model less that under the second, in nats: a sum over its tokens, or a mean
    `per_token` (Granite 3.0 section 5.3.3; Li et al. 2023, contrastive decoding)."""

    strong: Transformer
    weak: Transformer
    per_token: bool = False

    @property
    def most_tokens(self) -> int:
        """The longest conversation that both read."""
        return min(self.strong.config.max_seq_len, self.weak.config.max_seq_len)

    @torch.no_grad()
    def scores(self, rows: Sequence[Rendered]) -> Tensor:
        """(R,), on the host."""
        found = torch.zeros(len(rows))
        for numbers in groups_of([len(row.ids) for row in rows]):
            row = one_row([rows[i] for i in numbers], self.strong.cos.device)
            (for_R, tokens_R), (against_R, _) = (answer_logprobs(model, row) for model in (self.strong, self.weak))
            contrast_R = for_R - against_R
            found[numbers] = (contrast_R / tokens_R if self.per_token else contrast_R).cpu()
        return found


@dataclass(frozen=True)
class Source:
    """A reward: the folder of a reward model's checkpoint, or those of the two language models that are contrasted."""

    name: str
    folders: tuple[Path, ...]
    per_token: bool = False
    weight: float = 1.0  # in an ensemble


def sources_of(configs: Sequence[Any], folders: Sequence[Path]) -> list[Source]:
    """The rewards of a stage: its lehr.stages.rewards.RewardConfig, each with the next one or two of the `folders`."""
    found, after = list[Source](), 0
    for c in configs:
        found.append(Source(c.name, tuple(folders[after : after + c.checkpoints]), c.per_token, c.weight))
        after += c.checkpoints
    return found


def load_scorer(source: Source, ranks: Ranks) -> Scorer:
    """Its models on this rank's device. Raises UserError for a checkpoint with another head than its place needs."""
    if len(source.folders) == 1:
        return ByModel(load_scalar(Artifact.open(source.folders[0], verify=False)).model.to(own_device(ranks)))
    strong, weak = (load_checkpoint(Artifact.open(folder, verify=False)).model for folder in source.folders)
    return ByContrast(strong.to(own_device(ranks)), weak.to(own_device(ranks)), source.per_token)


def check_agrees(source: Source, ours: Tokenizer, where: str) -> None:
    """Raises UserError as `check_reads` does, for each of its models."""
    for folder in source.folders:
        check_reads(source.name, folder, ours, where)
