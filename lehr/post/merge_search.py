"""A search of a linear merge's weights: deterministic, over the simplex, by a score that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Weights = tuple[float, ...]
_FIRST_STRIDE, _LAST_STRIDE = 0.5, 1 / 128
_DIGITS = 9  # to which weights are rounded: the same set is not scored again


@dataclass(frozen=True)
class Point:
    """A set of weights, which sum to 1, with its score."""

    weights: Weights
    score: float


def search(count: int, points: int, score: Callable[[Weights], float], lower: bool = False) -> list[Point]:
    """At most `points` sets of weights of `count` models, in the order in which they were scored: the equal ones, each model
    alone, then around the best so far a stride towards each model, halved when none of these is better. `lower`: a lower score
    is better."""
    trace: list[Point] = []

    def tried(candidates: Iterator[Weights] | Sequence[Weights]) -> None:
        for weights in candidates:
            if len(trace) < points and weights not in {point.weights for point in trace}:
                trace.append(Point(weights, score(weights)))

    tried([_rounded([1 / count] * count), *(_corner(count, i) for i in range(count))])
    stride = _FIRST_STRIDE
    while len(trace) < points and stride >= _LAST_STRIDE:
        before = best(trace, lower)
        tried([_towards(before.weights, i, stride) for i in range(count)])
        if best(trace, lower) == before:
            stride /= 2
    return trace


def best(trace: Sequence[Point], lower: bool) -> Point:
    """Of equal scores the one that was found first."""
    return (min if lower else max)(trace, key=lambda point: point.score)


def _corner(count: int, number: int) -> Weights:
    return tuple(float(i == number) for i in range(count))


def _towards(weights: Weights, number: int, stride: float) -> Weights:
    return _rounded([(1 - stride) * w + stride * (i == number) for i, w in enumerate(weights)])


def _rounded(weights: Sequence[float]) -> Weights:
    return tuple(round(weight, _DIGITS) for weight in weights)
