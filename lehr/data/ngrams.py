"""Sequences of words that a text has more than once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_BITS = 21  # of a position, and of the number of a word or of a sequence, where they fit


class Repeated(NamedTuple):
    """Where sequences of `n` words stand that occur more than once: by place in the text, [places] each."""

    n: int
    places: np.ndarray  # of their first word
    numbers: np.ndarray  # equal for equal sequences
    top: int  # the first place of the commonest sequence: of equally common ones the first
    times: int  # how often that stands there


def repeated(ids: np.ndarray, most: int) -> Iterator[Repeated]:
    """For n from 2 to `most`. Sequences are looked for only where the shorter ones at both of their ends are repeated, so that
    all but the first n cost little. `ids` [words]."""
    places, numbers = np.arange(len(ids)), ids
    for n in range(2, most + 1):
        next_to = np.flatnonzero(np.diff(places) == 1)  # `numbers` there and one further are the sequence's two ends
        found = _grouped(numbers[next_to], numbers[next_to + 1], places[next_to])
        yield Repeated(n, *found)
        places, numbers = found[0], found[1]


def _grouped(firsts: np.ndarray, seconds: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """places, numbers, top, times of the pairs (first, second) that occur more than once. `places` are sorted."""
    if not len(places):
        return places, firsts, 0, 1
    if max(int(firsts.max()), int(seconds.max()), int(places[-1])) >> _BITS:
        keys = firsts * (int(seconds.max()) + 1) + seconds
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
    else:  # sorting numbers is faster than sorting their places, so the place is packed into the number
        packed = np.sort(firsts << 2 * _BITS | seconds << _BITS | places)
        keys, places = packed >> _BITS, packed & ((1 << _BITS) - 1)
    same = keys[1:] == keys[:-1]
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    counts = np.diff(starts, append=len(keys))
    times = int(counts.max())
    top = int(places[starts[counts == times]].min()) if times > 1 else 0  # all occur once: the text's first
    again = np.repeat(counts > 1, counts)
    numbers = np.repeat(np.arange(len(counts)), counts)[again]
    order = np.argsort(places[again])
    return places[again][order], numbers[order], top, times


def duplicated(found: Repeated, ends: np.ndarray) -> int:
    """The characters of sequences that occurred before. One that begins inside such a sequence counts neither as a repetition
    nor as an occurrence. `ends` [words + 1]: the characters before each word."""
    seen, total, free = set[int](), 0, 0
    for place, number in zip(found.places.tolist(), found.numbers.tolist(), strict=True):
        if place < free:
            continue
        if number in seen:
            free = place + found.n
            total += int(ends[free] - ends[place])
        else:
            seen.add(number)
    return total
