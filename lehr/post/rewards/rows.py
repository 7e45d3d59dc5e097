"""Answers in packed rows, and a reward model's numbers for them. Shapes: N tokens of a row, R answers in it, K numbers of an
answer, D model width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.model.attention import Documents
from lehr.model.init import truncated_normal_
from lehr.model.scalar import ScalarModel
from lehr.model.transformer import Backbone
from lehr.post.packing import ROW_TOKENS, first_fit_decreasing
from lehr.post.rendered import Rendered


@dataclass(frozen=True)
class AnswerRow:
    """The tokens (1, N) of R conversations one after the other, which do not see each other; `lasts_R` is where each one's
    answer ends."""

    tokens_1N: Tensor
    lasts_R: Tensor
    documents: Documents


def answer_end(row: Rendered) -> int:
    """The place of the answer's last token, its end of turn: a template may write a line end after it."""
    return max((i for i, mine in enumerate(row.mask) if mine), default=len(row.ids) - 1)


def answer_row(rows: Sequence[Rendered], device: torch.device) -> AnswerRow:
    """All of `rows` in one, each up to its answer's last token, which is read too: that is where the reward stands."""
    pieces = [torch.tensor(row.ids[: answer_end(row) + 1]) for row in rows]
    lengths = [len(piece) for piece in pieces]
    lasts_R = torch.tensor(lengths).cumsum(0) - 1
    return AnswerRow(torch.cat(pieces)[None].to(device), lasts_R.to(device), Documents(tuple(lengths)))


def with_head(backbone: Backbone, outputs: int, seed: int) -> ScalarModel:
    """`ScalarModel.on` with a new head of so many outputs, one for each aspect that is rated."""
    model = ScalarModel.on(backbone, seed)
    if outputs > 1:
        width = backbone.config.d_model
        model.score = nn.Linear(width, outputs, bias=False).to(backbone.cos.device)
        truncated_normal_(model.score.weight, 1 / math.sqrt(width + 1), torch.Generator().manual_seed(seed))
    return model


def numbers_of(model: ScalarModel, row: AnswerRow) -> Tensor:
    """The head's outputs at the last token of each answer, (R, K), in fp32."""
    hidden_1ND = model.hidden(row.tokens_1N, documents=row.documents)
    return F.linear(hidden_1ND[0, row.lasts_R].float(), model.score.weight.float())


@torch.no_grad()
def all_numbers(model: ScalarModel, rows: Sequence[Rendered]) -> Tensor:
    """`numbers_of` any number of answers, (R, K), on the host."""
    found = torch.zeros(len(rows), model.score.weight.shape[0])
    for numbers in groups_of([len(row.ids) for row in rows]):
        found[numbers] = numbers_of(model, answer_row([rows[i] for i in numbers], model.cos.device)).cpu()
    return found


def groups_of(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of `lengths` in groups that are computed at once."""
    for group in first_fit_decreasing(lengths, ROW_TOKENS):
        yield sorted(group)
