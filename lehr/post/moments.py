"""Moments of numbers of which every rank has a part."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lehr.distributed.ranks import Ranks


def moments(ranks: Ranks, *numbers: Tensor) -> list[tuple[float, float, float]]:
    """(count, mean, variance with Bessel's correction) of each of `numbers`, flat tensors of which every rank has a part. In
    fp64, and the ranks' parts in the order of ranks: what follows from it is the same on all of them. A collective."""
    own = [(x.numel(), float(x.double().sum()), float(x.double().square().sum())) for x in numbers]
    gathered: Sequence[list[tuple[int, float, float]]] = ranks.gather(own)
    out = []
    for parts in zip(*gathered, strict=True):
        count, total, squares = (float(sum(part[i] for part in parts)) for i in range(3))
        mean = total / count if count else 0.0
        variance = max(0.0, (squares - count * mean * mean) / (count - 1)) if count > 1 else 0.0
        out.append((count, mean, variance))
    return out
