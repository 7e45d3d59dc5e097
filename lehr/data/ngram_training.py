"""Training an n-gram language model: interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998), with the counts and
the pruning of KenLM's lmplz (Heafield and others 2013).

Letters: T words of the training text with the marks around its lines, V words of the vocabulary, M n-grams of one order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.data.ngram_model import BEGIN, END, MARKS, NEVER, NgramLanguageModel, Normalise, Order
from lehr.runtime.errors import UserError

_FALLBACK = (0.5, 1.0, 1.5)  # lmplz's, where counts of counts are too few to estimate discounts


@dataclass
class _Counted:
    """The n-grams of one order: `first_M` numbers of their first n - 1 words, `last_M` of the last word, `suffix_M` of the last
    n - 1 words; `raw_M` occurrences; `begins_M` those that begin a line."""

    first_M: np.ndarray
    last_M: np.ndarray
    suffix_M: np.ndarray
    raw_M: np.ndarray
    begins_M: np.ndarray


def train(lines: Iterable[Sequence[str]], order: int, prune: Sequence[int], normalise: Normalise) -> NgramLanguageModel:
    """The model of `lines` of words. Raises UserError if there are none."""
    words = {mark: number for number, mark in enumerate(MARKS)}
    ids = list[int]()
    for line in lines:
        ids += [BEGIN, *(words.setdefault(word, len(words)) for word in line), END]
    if not ids:
        raise UserError("no words to train a language model on", remedy="add documents")
    counted = _count(np.array(ids, np.int64), len(words), order)
    thresholds = [*prune, *[prune[-1]] * order][:order]
    return NgramLanguageModel(words, _smoothed(counted, thresholds, len(words)), normalise)


def _count(ids_T: np.ndarray, size: int, most: int) -> list[_Counted]:
    single = np.arange(size)
    nothing = np.zeros(size, np.int64)
    raw = np.bincount(ids_T, minlength=size)
    out, ending_T = [_Counted(nothing, single, nothing, raw, single == BEGIN)], ids_T
    for _ in range(1, most):
        before_T = np.concatenate([[-1], ending_T[:-1]])
        at = np.flatnonzero((before_T >= 0) & (ids_T != BEGIN))  # a line's beginning ends no n-gram
        keys, place, number, raw_M = np.unique(
            before_T[at] * size + ids_T[at], return_index=True, return_inverse=True, return_counts=True
        )
        first_M, last_M = keys // size, keys % size
        out.append(_Counted(first_M, last_M, ending_T[at[place]], raw_M, out[-1].begins_M[first_M]))
        ending_T = np.full(len(ids_T), -1, np.int64)
        ending_T[at] = number
    return out


def _smoothed(counted: list[_Counted], prune: Sequence[int], size: int) -> list[Order]:
    orders, lower_M, kept = list[Order](), np.full(1, 1 / (size - 1)), np.ones(1, np.bool_)  # uniform: all words but <s>
    numbering = np.zeros(1, np.int64)
    for n, those in enumerate(counted):
        adjusted_M = _adjusted(those, counted[n + 1] if n + 1 < len(counted) else None)
        if n == 0:
            adjusted_M[BEGIN] = 0  # never predicted
        keep_M = those.raw_M > prune[n] if n else np.ones(size, np.bool_)
        total = np.bincount(those.first_M, weights=adjusted_M, minlength=len(lower_M))
        own_M = (adjusted_M - discounts(adjusted_M)[np.minimum(adjusted_M, 3)]) / np.maximum(total[those.first_M], 1)
        own_M[~keep_M] = 0.0
        # What a context does not give to words of its own; 1 where it has none. With pruning, what is left out goes there too.
        backoff = 1 - np.bincount(those.first_M, weights=own_M, minlength=len(lower_M))
        if orders:
            orders[-1].backoffs = np.log10(backoff[kept]).astype(np.float32)
        probability_M = own_M + backoff[those.first_M] * lower_M[those.suffix_M]
        if n == 0:
            probability_M[BEGIN] = 0
        renumbered = np.cumsum(keep_M) - 1  # ascending, so the keys stay sorted
        keys = numbering[those.first_M[keep_M]].astype(np.uint64) * np.uint64(size) + those.last_M[keep_M].astype(np.uint64)
        logs = np.log10(np.maximum(probability_M[keep_M], 10.0**NEVER)).astype(np.float32)
        orders.append(Order(keys if n else np.zeros(0, np.uint64), np.minimum(logs, 0), np.zeros(len(logs), np.float32)))
        lower_M, kept, numbering = probability_M, keep_M, renumbered
    return orders


def _adjusted(those: _Counted, above: _Counted | None) -> np.ndarray:
    """Of the highest order, and of what begins a line: occurrences. Otherwise the number of different words before it."""
    if above is None:
        return those.raw_M.copy()
    before_M = np.bincount(above.suffix_M, minlength=len(those.raw_M))
    found: np.ndarray = np.where(those.begins_M, those.raw_M, before_M)
    return found


def discounts(adjusted_M: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2, and 3 or more: Chen and Goodman's estimate from the counts of counts; lmplz's
    fallback where these are too few for one."""
    t = np.bincount(np.minimum(adjusted_M, 5), minlength=6)
    if (t[1:5] == 0).any():
        return np.array([0.0, *_FALLBACK])
    y = t[1] / (t[1] + 2 * t[2])
    found = np.array([0.0, *(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))])
    return found if (found[1:] > 0).all() and (found <= np.arange(4)).all() else np.array([0.0, *_FALLBACK])
