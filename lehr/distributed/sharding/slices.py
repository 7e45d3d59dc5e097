"""The parts of a tensor that a rank holds, in coordinates of the whole tensor. They make a checkpoint of one layout readable
under any other: a save records where its numbers belong, and not how the layout came to divide them so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

Block = tuple[tuple[int, ...], tuple[int, ...], int]  # offset, sizes, and where it begins in the row-major range


@dataclass(frozen=True)
class Chunk:
    """A block of a whole tensor: its `offset` in it, and this rank's memory for the block, a view."""

    offset: tuple[int, ...]
    tensor: Tensor


@dataclass(frozen=True)
class Slices:
    """The blocks that this rank holds of one tensor of `shape`; they do not overlap."""

    shape: tuple[int, ...]
    chunks: list[Chunk] = field(default_factory=list)

    @classmethod
    def whole(cls, tensor: Tensor) -> Slices:
        """All of `tensor`, as one block."""
        return cls(tuple(tensor.shape), [Chunk((0,) * tensor.dim(), tensor)])

    @classmethod
    def of_range(cls, shape: tuple[int, ...], start: int, memory: Tensor) -> Slices:
        """Elements `start` to `start + len(memory)` of a row-major tensor of `shape`, held in flat `memory`."""
        found = blocks(shape, start, start + memory.numel())
        return cls(shape, [Chunk(o, memory[at : at + math.prod(s)].view(s)) for o, s, at in found])

    @torch.no_grad()
    def fill(self, whole: Tensor) -> None:
        """Copy this rank's part of `whole` into its memory."""
        for chunk in self.chunks:
            here = tuple(slice(o, o + n) for o, n in zip(chunk.offset, chunk.tensor.shape, strict=True))
            chunk.tensor.copy_(whole[here])


def blocks(shape: tuple[int, ...], start: int, end: int) -> list[Block]:
    """The row-major range [start, end) of a tensor of `shape` as blocks: at most two for each axis but the last."""
    return list(_blocks(shape, start, end, ()))


def _blocks(shape: tuple[int, ...], start: int, end: int, outer: tuple[int, ...]) -> Iterator[Block]:
    if end <= start:
        return
    lead = (1,) * len(outer)
    if len(shape) == 1:
        yield (*outer, start), (*lead, end - start), 0
        return
    inner = math.prod(shape[1:])
    first, last = -(-start // inner), end // inner  # whole rows
    if first > last:  # inside one row
        row = start // inner
        yield from _blocks(shape[1:], start - row * inner, end - row * inner, (*outer, row))
        return
    head = first * inner - start
    if head:
        yield from _blocks(shape[1:], inner - head, inner, (*outer, first - 1))
    if last > first:
        zeros = (0,) * (len(shape) - 1)
        yield (*outer, first, *zeros), (*lead, last - first, *shape[1:]), head
    before = end - last * inner
    if before:
        for offset, sizes, at in _blocks(shape[1:], 0, before, (*outer, last)):
            yield offset, sizes, at + last * inner - start


@dataclass(frozen=True)
class TPShard:
    """The part of a parameter that tensor parallelism leaves on one rank: runs of rows (start, length), contiguous in the
    rank's memory, or one run of columns."""

    rows: tuple[tuple[int, int], ...] = ()
    columns: tuple[int, int] | None = None

    @property
    def some(self) -> bool:
        """Whether the parameter is sharded at all."""
        return bool(self.rows) or self.columns is not None


def shard_pieces(shape: tuple[int, ...], tp_shard: TPShard, index: int, count: int, memory: Tensor) -> Slices:
    """The place of `memory` in a parameter of `shape`: shard `index` of `count`, along the rows that `tp_shard` leaves.

    Rows are divided as FSDP2 does: the first ranks get ceil(rows / count), the last one the rest.
    """
    runs = tp_shard.rows or ((0, shape[0]),)
    each = -(-sum(length for _, length in runs) // count)
    begin, end = index * each, (index + 1) * each
    chunks, at = [], 0
    for start, length in runs:
        low, high = max(begin, at), min(end, at + length)
        if low < high:
            offset = (start + low - at, *((0,) * (len(shape) - 1)))
            if tp_shard.columns is not None:
                offset = (offset[0], tp_shard.columns[0])
            chunks.append(Chunk(offset, memory[low - begin : high - begin]))
        at += length
    return Slices(shape, chunks)
