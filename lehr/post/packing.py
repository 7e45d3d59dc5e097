"""Packing: conversations one after the other in a row, without padding, which do not see each other. Shapes: N tokens of a row,
R conversations in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.model.attention import Documents
from lehr.post.rendered import Rendered
from lehr.train.losses import IGNORE

ROW_TOKENS = 8192  # of a row, unless one conversation has more: what is computed at once


@dataclass(frozen=True)
class PackedRow:
    """Inputs and shifted labels (-100 where nothing is trained), both (1, N), of R conversations."""

    tokens_1N: Tensor
    labels_1N: Tensor
    documents: Documents

    def sums(self, values_1N: Tensor) -> Tensor:
        """The sum of the values of each conversation, (R,)."""
        lengths = torch.tensor(self.documents.lengths, device=values_1N.device)
        owner_N = torch.repeat_interleave(torch.arange(len(lengths), device=values_1N.device), lengths)
        return values_1N.new_zeros(len(lengths)).index_add(0, owner_N, values_1N[0])


def first_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """The numbers of `lengths` in bins of `room`: the longest first, each into the first bin with enough space (Granite 3.0
    section 5.2). One that is longer than `room` has a bin of its own."""
    bins: list[list[int]] = []
    left: list[int] = []
    opened: list[int] = []  # bins that still have room for the shortest, in order
    shortest = min(lengths, default=0)
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[number]
        place = next((b for b in opened if left[b] >= length), None)
        if place is None:
            place = len(bins)
            bins.append([])
            left.append(room)
            opened.append(place)
        bins[place].append(number)
        left[place] -= length
        if left[place] < shortest:
            opened.remove(place)
    return bins


def packed(rows: Sequence[Rendered], device: torch.device, row_tokens: int = ROW_TOKENS) -> Iterator[PackedRow]:
    """`rows` in as few rows of at most `row_tokens` tokens as first-fit-decreasing makes, on `device`."""
    for numbers in first_fit_decreasing([len(row.ids) - 1 for row in rows], row_tokens):
        yield one_row([rows[number] for number in sorted(numbers)], device)


def one_row(rows: Sequence[Rendered], device: torch.device) -> PackedRow:
    """All of `rows` in one, on `device`. The last token of a conversation is a label only."""
    tokens, labels = [], []
    for row in rows:
        ids = torch.tensor(row.ids)
        tokens.append(ids[:-1])
        labels.append(torch.where(torch.tensor(row.mask[1:]), ids[1:], IGNORE))
    inputs, targets = (torch.cat(parts)[None].to(device) for parts in (tokens, labels))
    return PackedRow(inputs, targets, Documents(tuple(map(len, tokens))))
