"""Packing: several conversations in one window, which do not see each other. Shapes: B windows, T columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.post.sft import Rendered
from lehr.train.losses import IGNORE


@dataclass(frozen=True)
class Windows:
    """Inputs, shifted labels (-100 where nothing is trained), and where a conversation begins, all (B, T). `begins_BT` is None
    if each window holds one conversation, to whose end causal attention does not reach."""

    tokens_BT: Tensor
    labels_BT: Tensor
    begins_BT: Tensor | None


def first_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """The numbers of `lengths` in bins of `room`: the longest first, each into the first bin with enough space (Granite 3.0
    section 5.2). One that is longer than `room` has a bin of its own."""
    bins: list[list[int]] = []
    left: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[number]
        place = next((b for b, space in enumerate(left) if space >= length), None)
        if place is None:
            bins.append([])
            left.append(room)
            place = len(bins) - 1
        bins[place].append(number)
        left[place] -= length
    return bins


def packed(rows: Sequence[Rendered], pad_id: int, most_tokens: int) -> Iterator[Windows]:
    """`rows` in windows as wide as the longest of them; windows come together in groups of at most `most_tokens` tokens, or one by
    one. Every row is an own document: its loss is that of the row by itself."""
    lengths = [len(row.ids) - 1 for row in rows]  # the last token is a label only
    width = max(lengths, default=0)
    bins = first_fit_decreasing(lengths, width)
    each = max(1, most_tokens // max(1, width))
    for start in range(0, len(bins), each):
        yield _windows([[rows[i] for i in numbers] for numbers in bins[start : start + each]], pad_id)


def _windows(groups: Sequence[Sequence[Rendered]], pad_id: int) -> Windows:
    width = max(sum(len(row.ids) - 1 for row in group) for group in groups)
    tokens_BT = torch.full((len(groups), width), pad_id)
    labels_BT = torch.full((len(groups), width), IGNORE)
    begins_BT = torch.zeros((len(groups), width), dtype=torch.bool)
    for b, group in enumerate(groups):
        at = 0
        for row in group:
            ids, end = torch.tensor(row.ids), at + len(row.ids) - 1
            tokens_BT[b, at:end] = ids[:-1]
            labels_BT[b, at:end] = torch.where(torch.tensor(row.mask[1:]), ids[1:], IGNORE)
            begins_BT[b, at] = True
            at = end
        begins_BT[b, at:] = True  # padding: each column sees only itself
    alone = all(len(group) == 1 for group in groups)
    return Windows(tokens_BT, labels_BT, None if alone else begins_BT)
