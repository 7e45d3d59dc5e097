"""Repeated n-grams, in the words of a document and in the tokens of a training instance (OLMo 2 section 3.1)."""

from __future__ import annotations

import numpy as np


def repeats(ids: np.ndarray, max_period: int, times: int) -> bool:
    """Whether some sequence of 1 to `max_period` of the integers `ids` occurs at least `times` times in a row.

    A period p repeats `times` times exactly if ids[i] == ids[i + p] for (times - 1) * p consecutive positions; 31 2/3 of 32
    repetitions do not count.
    """
    for period in range(1, max_period + 1):
        need = (times - 1) * period
        if len(ids) - period < need:
            break
        same = ids[period:] == ids[:-period]
        if np.count_nonzero(same) < need:
            continue
        edges = np.concatenate([[-1], np.flatnonzero(~same), [len(same)]])
        if int(np.diff(edges).max()) - 1 >= need:
            return True
    return False


def most_repeats(ids: np.ndarray, max_period: int) -> int:
    """The most times in a row that some sequence of 1 to `max_period` of the integers `ids` stands there, in full; 0 if there
    are none."""
    most = min(len(ids), 1)
    for period in range(1, max_period + 1):
        need = most * period  # for one repeat more, so many positions in a row equal those a period further
        if len(ids) - period < need:
            break
        same = ids[period:] == ids[:-period]
        if np.count_nonzero(same) < need:
            continue
        edges = np.concatenate([[-1], np.flatnonzero(~same), [len(same)]])
        most = max(most, (int(np.diff(edges).max()) - 1) // period + 1)
    return most
