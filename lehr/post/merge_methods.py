"""How tensors are merged: linear, SLERP (Shoemake 1985), TIES (Yadav et al. 2023), DARE (Yu et al. 2023).

All in fp32. Weights are one number for each parent. `normalise` divides by their sum: of all parents, and for TIES of those
that agree on an element's sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lehr.post.weight_files import Combine, Method, NamedTensor
from lehr.runtime.seeds import derive, keyed_uniform

NEARLY_PARALLEL = 0.9995  # cosine from which SLERP is linear: its sines would be quotients of rounding errors
_LOW_BITS = 15  # of the 31 of a magnitude that the second histogram resolves

# What is left of a block of differences, from the number of its first element.
Thin = Callable[[int, Tensor], Tensor]


def linear(weights: Sequence[float], normalise: bool = True) -> Method:
    """The sum of w x parent, over the sum of w. With equal weights exactly the soup: a plain sum, divided by their number."""
    same = normalise and len(set(weights)) == 1
    factors = [1.0] * len(weights) if same else list(weights)
    whole = math.fsum(factors) if normalise else 1.0

    def combine(_start: int, blocks: Sequence[Tensor], _base: Tensor) -> Tensor:
        return _weighted(blocks, factors).div_(whole)

    return lambda _tensor: combine


def slerp(at: float) -> Method:
    """Along the great circle from the first parent (0) to the second (1), tensor by tensor; on a straight line where the two
    are nearly parallel, or one is zero."""

    def of(tensor: NamedTensor) -> Combine:
        angle = _angle(tensor)
        if angle is None:
            return lambda _start, blocks, _base: torch.lerp(blocks[0], blocks[1], at)
        first, second = math.sin((1 - at) * angle) / math.sin(angle), math.sin(at * angle) / math.sin(angle)
        return lambda _start, blocks, _base: blocks[0] * first + blocks[1] * second

    return of


def _angle(tensor: NamedTensor) -> float | None:
    """Between two parents, in radians; None where their cosine is near 1 or -1, or not defined."""
    products: list[tuple[float, float, float]] = []
    for a, b in zip(*(parent.blocks(tensor.name) for parent in tensor.parents), strict=True):
        a, b = a.double(), b.double()
        products.append((float(a @ b), float(a @ a), float(b @ b)))
    dot, first, second = (math.fsum(column) for column in zip(*products, strict=True)) if products else (0.0, 0.0, 0.0)
    norms = math.sqrt(first) * math.sqrt(second)
    cosine = dot / norms if norms else 1.0
    return math.acos(cosine) if abs(cosine) < NEARLY_PARALLEL else None


def ties(weights: Sequence[float], density: float, normalise: bool = True, scale: float = 1.0) -> Method:
    """Of each parent's difference to the ancestor the largest elements, a share `density` of every tensor (elements as large as
    the last one of them too); of these the ones whose sign has the greater weighted sum, averaged; added `scale` times."""

    def trim(tensor: NamedTensor, number: int) -> Thin:
        least = kth_magnitude(lambda: tensor.differences(number), max(1, int(density * tensor.elements)))
        return lambda _start, difference: torch.where(_magnitude(difference) >= least, difference, 0.0)

    return _of_differences(trim, weights, _agreed, (normalise, scale))


def dare(
    weights: Sequence[float], drop: float, keys: Sequence[int], consensus: bool, normalise: bool = True, scale: float = 1.0
) -> Method:
    """Each element of a parent's difference to the ancestor is dropped with probability `drop`, the rest divided by 1 - drop;
    then summed as by `linear`, or with `consensus` as TIES does without its trimming. Which are dropped is a function of the
    parent's key, the tensor's name and the element's number alone."""

    def dropped(tensor: NamedTensor, number: int) -> Thin:
        key = derive(keys[number], tensor.name)

        def thin(start: int, difference: Tensor) -> Tensor:
            kept = torch.from_numpy(keyed_uniform(start, len(difference), key) >= drop)
            return torch.where(kept, difference / (1 - drop), 0.0)

        return thin

    return _of_differences(dropped, weights, _agreed if consensus else _averaged, (normalise, scale))


def _of_differences(
    thinned: Callable[[NamedTensor, int], Thin],
    weights: Sequence[float],
    joined: Callable[[Sequence[Tensor], Sequence[float], bool], Tensor],
    how: tuple[bool, float],
) -> Method:
    normalise, scale = how

    def of(tensor: NamedTensor) -> Combine:
        thins = [thinned(tensor, number) for number in range(len(tensor.parents))]

        def combine(start: int, blocks: Sequence[Tensor], base: Tensor) -> Tensor:
            kept = [thin(start, block - base) for thin, block in zip(thins, blocks, strict=True)]
            return base + joined(kept, weights, normalise) * scale

        return combine

    return of


def _weighted(blocks: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = blocks[0] * weights[0]
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        total.add_(block * weight)
    return total


def _averaged(kept: Sequence[Tensor], weights: Sequence[float], normalise: bool) -> Tensor:
    total = _weighted(kept, weights)
    return total.div_(math.fsum(weights)) if normalise else total


def _agreed(kept: Sequence[Tensor], weights: Sequence[float], normalise: bool) -> Tensor:
    """Sign by sign: of each element the differences that have the elected sign, averaged over these parents."""
    elected = _weighted(kept, weights).sign_()
    agreeing = [(block.sign() == elected) & (block != 0) for block in kept]
    total = _weighted([torch.where(agrees, block, 0.0) for agrees, block in zip(agreeing, kept, strict=True)], weights)
    if not normalise:
        return total
    whole = _weighted([agrees.to(torch.float32) for agrees in agreeing], weights)
    return torch.where(whole > 0, total / whole, 0.0)


def _magnitude(block: Tensor) -> Tensor:
    """|x| of fp32 as whole numbers of the same order: its bits."""
    return block.abs().contiguous().view(torch.int32)


def kth_magnitude(blocks: Callable[[], Iterator[Tensor]], k: int) -> int:
    """The k-th largest |x| over all `blocks`, exactly, as the bits of an fp32 number: two passes with a histogram each, in
    half a megabyte. 0 if there are fewer elements than `k`."""
    coarse, rest = _kth_bin((_magnitude(b) >> _LOW_BITS for b in blocks()), 1 << (31 - _LOW_BITS), k)

    def within() -> Iterator[Tensor]:
        for block in blocks():
            bits = _magnitude(block)
            yield bits[(bits >> _LOW_BITS) == coarse] & ((1 << _LOW_BITS) - 1)

    fine, _ = _kth_bin(within(), 1 << _LOW_BITS, rest)
    return (coarse << _LOW_BITS) | fine


def _kth_bin(bins: Iterator[Tensor], count: int, k: int) -> tuple[int, int]:
    """The bin of the k-th largest number, and which of its bin it is, from the top. (0, k) if there are fewer numbers."""
    histogram = torch.zeros(count, dtype=torch.int64)
    for numbers in bins:
        histogram += torch.bincount(numbers, minlength=count)
    above = histogram.flip(0).cumsum(0)  # numbers in a bin or above, from the highest bin down
    place = int(torch.searchsorted(above, torch.tensor(k)))
    if place == count:
        return 0, k
    return count - 1 - place, k - (int(above[place - 1]) if place else 0)
