"""Interpolated modified Kneser-Ney n-grams over token ids, counted by sorting: exact, without pruning.

Sources: Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1998, equations 9 and 26; Kneser
and Ney 1995 for the lower orders, which count the distinct contexts of a word instead of its occurrences. If discounts cannot
be estimated, those of KenLM's --discount_fallback are used. Unigrams are interpolated with the uniform distribution, so that
every token has a positive probability.
Shapes: N positions of all windows, concatenated; `places` is the number of tokens before a position in its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.evals.task import Scored, TextTokenizer

_FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts of counts of 0, 1, 2, and 3 or more
Pairs = Sequence[tuple[list[int], list[int]]]


@dataclass(frozen=True)
class _Keys:
    """The k-grams that were seen. A k-gram's key is the number of its first k - 1 tokens times the vocabulary size, plus its
    last token; its number is the position of its key among the sorted keys. A single token's number is the token itself."""

    keys: np.ndarray

    def numbers(self, asked: np.ndarray) -> np.ndarray:
        """The number of each key, -1 for keys that were not seen."""
        found = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)  # of keys above the last one too
        return np.where(self.keys[found] == asked, found, -1)


@dataclass(frozen=True)
class _Order:
    """One order's probabilities: `share` is each k-gram's discounted share in its context, and `left` is the probability that
    each context, by its number, leaves to lower orders: 1 for a context that nothing follows."""

    share: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, contexts: np.ndarray, how_many: int) -> _Order:
        """From counts (at least 1) and the number of each k-gram's context, which is below `how_many`."""
        discounts = _discounts(counts)
        taken = discounts[np.minimum(counts, 3)]
        totals = np.bincount(contexts, counts, how_many)
        reserved = np.bincount(contexts, taken, how_many)
        left = np.divide(reserved, totals, out=np.ones(how_many), where=totals > 0)
        return cls((counts - taken) / totals[contexts], left)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """The discounts of counts of 0, 1, 2, and 3 or more (Chen and Goodman 1998, equation 26)."""
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if (found >= 0).all() else _FALLBACK


class NgramCounts:
    """The k-grams of windows of text for every k up to `highest`, from which models of all these orders are made.

    `windows` are token ids below `vocabulary`. The first token of a window is only context, as in training; no k-gram crosses a
    window's beginning.
    """

    def __init__(self, windows: Sequence[np.ndarray], vocabulary: int, highest: int) -> None:
        self.vocabulary = vocabulary
        # int64: keys are products with the vocabulary's size, and a shard's tokens may be uint16.
        self.tokens_N = np.concatenate(windows).astype(np.int64)
        self.places_N = np.concatenate([np.arange(len(window)) for window in windows])
        self.keys = [_Keys(np.arange(vocabulary))]
        self.before = list[np.ndarray]()  # for each k-gram: distinct tokens before it, a window's beginning counting as one
        self.how_often, self.contexts = list[np.ndarray](), list[np.ndarray]()  # for bigrams, trigrams, ...
        numbers_N = self.tokens_N
        for k in range(2, highest + 1):
            ends = np.flatnonzero(self.places_N >= k - 1)
            keys_N = numbers_N[ends - 1] * vocabulary + self.tokens_N[ends]
            keys, first, inverse, counts = np.unique(keys_N, return_index=True, return_inverse=True, return_counts=True)
            self.before.append(self._different(numbers_N, ends[first], k - 1))
            numbers_N = np.full(len(self.tokens_N), -1)
            numbers_N[ends] = inverse.reshape(-1)
            self.keys.append(_Keys(keys))
            self.how_often.append(counts)
            self.contexts.append(keys // vocabulary)

    def _different(self, numbers_N: np.ndarray, ends: np.ndarray, k: int) -> np.ndarray:
        """The number of distinct tokens before each k-gram: one for each (k + 1)-gram that ends in it, and one if it begins a
        window. `ends` holds one end position for each distinct (k + 1)-gram."""
        known = len(self.keys[k - 1].keys)
        found = np.bincount(numbers_N[ends], minlength=known)
        if k > 1:  # a window's first token is never predicted
            found += np.bincount(np.unique(numbers_N[self.places_N == k - 1]), minlength=known)
        return found

    def model(self, order: int, tokenizer: TextTokenizer) -> NgramModel:
        """The model of that order, between 2 and the highest counted."""
        orders = [_single(self.before[0])]
        for k in range(2, order + 1):
            counts = self.how_often[k - 2] if k == order else self.before[k - 1]
            orders.append(_Order.of(counts, self.contexts[k - 2], len(self.keys[k - 2].keys)))
        return NgramModel(self.keys[:order], orders, self.vocabulary, tokenizer)


def _single(counts: np.ndarray) -> _Order:
    """For single tokens, some of which may be unseen: the probability left over is distributed evenly."""
    seen = np.flatnonzero(counts)
    order = _Order.of(counts[seen], np.zeros(len(seen), np.int64), 1)
    share = np.full(len(counts), order.left[0] / len(counts))
    share[seen] += order.share
    return _Order(share, order.left)


@dataclass(frozen=True)
class NgramModel:
    """Scores text through the interface of lehr.evals.perplexity, with only the given context of each request."""

    keys: list[_Keys]
    orders: list[_Order]
    vocabulary: int
    tokenizer: TextTokenizer

    def logprobs(self, pairs: Pairs, /) -> list[Scored]:
        """The sum of each continuation's log-probabilities in nats. Whether greedy decoding agrees is not computed: False."""
        lengths = np.array([len(context) + len(continuation) for context, continuation in pairs])
        tokens_N = np.array([token for pair in pairs for ids in pair for token in ids], np.int64)
        starts = np.cumsum(lengths) - lengths
        places_N = np.arange(len(tokens_N)) - np.repeat(starts, lengths)
        first_N = np.repeat([len(context) for context, _ in pairs], lengths)
        logs_N = np.where(places_N >= first_N, np.log(self.probabilities(tokens_N, places_N)), 0.0)
        # Right only because no request is empty: of an empty one reduceat would return the next request's first value.
        sums = np.add.reduceat(logs_N, starts)
        return [(float(total), len(ids), False) for total, (_, ids) in zip(sums, pairs, strict=True)]

    def probabilities(self, tokens_N: np.ndarray, places_N: np.ndarray) -> np.ndarray:
        """The probability of each token given those before it in its window: up to `places` of them, and to the order."""
        found_N: np.ndarray = self.orders[0].share[tokens_N]
        numbers_N = tokens_N
        for k, (keys, order) in enumerate(zip(self.keys[1:], self.orders[1:], strict=True), start=2):
            if not len(keys.keys):  # all windows are shorter than this order
                break
            # What `roll` brings round to position 0 is not used: its place is 0. Below, -1 reads an entry that np.where drops.
            contexts_N = np.where(places_N >= k - 1, np.roll(numbers_N, 1), -1)
            known_N = contexts_N >= 0
            numbers_N = np.where(known_N, keys.numbers(contexts_N * self.vocabulary + tokens_N), -1)
            own_N = np.where(numbers_N >= 0, order.share[numbers_N], 0.0)
            found_N = np.where(known_N, own_N + order.left[contexts_N] * found_N, found_N)
        return found_N
