"""Decontamination: no training document may contain n-grams of words of an evaluation example (OLMo 2 section 4.3; OLMo 1
section 2.4)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat

import numpy as np

_TOKEN = re.compile(r"[^\W_]+")
_BATCH = 512  # documents searched in one NumPy call: most are short, and a call costs as much as a hundred words
_ODD = 0x9E3779B97F4A7C15  # multiplier of the rolling hash (Fibonacci hashing): 2^64 / golden ratio, made odd

Shared = list[int]  # numbers of the n-grams that a document shares with evaluation texts, in document order, with repeats


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation."""
    return _TOKEN.findall(text.lower())


class Decontaminator:
    """An index of all word n-grams of the evaluation texts, by task. Texts shorter than `n` words cannot be found this way:

    short problems are excluded by their keys instead (lehr.data.synthetic.splits).
    Words of evaluation texts are numbered from 1, all other words are 0. A bit table, indexed by hash, is looked up first: only
    where its bit is set is the n-gram itself compared.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]], n: int, hits: Mapping[str, int]) -> None:
        """`hits[task]`: the number of shared n-grams from which a document counts as contaminated by that task."""
        self.n, self.hits = n, hits
        self._tasks = list(texts)
        self._words: dict[str, int] = {}
        self._grams: dict[bytes, int] = {}
        self._tasks_of: list[int] = []  # for each n-gram, a bit for each task in whose texts it occurs
        for number, task in enumerate(self._tasks):
            for text in texts[task]:
                self._learn(tokens(text), number)
        learnt = np.frombuffer(b"".join(self._grams), np.uint32).reshape(-1, n)
        # Eight bits or more for each n-gram: at most one in eight lookups passes by chance.
        self._bits = max(16, (8 * len(learnt)).bit_length())
        self._maybe = np.zeros(1 << self._bits, np.bool_)
        self._maybe[self._places(learnt.ravel())[::n]] = True

    def _learn(self, words: list[str], task: int) -> None:
        ids = [self._words.setdefault(word, len(self._words) + 1) for word in words]
        for gram in self._cut(np.array(ids, np.uint32), range(len(ids) - self.n + 1)):
            number = self._grams.setdefault(gram, len(self._tasks_of))
            if number == len(self._tasks_of):
                self._tasks_of.append(0)
            self._tasks_of[number] |= 1 << task

    def _cut(self, ids: np.ndarray, starts: Iterable[int]) -> Iterator[bytes]:
        """The n-grams that begin at positions `starts`."""
        raw, width = ids.tobytes(), ids.itemsize
        return (raw[width * start : width * (start + self.n)] for start in starts)

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """The index of each n-gram's bit: the highest bits of a polynomial of its words' numbers."""
        count, total = len(ids) - self.n + 1, np.zeros(max(0, len(ids) - self.n + 1), np.uint64)
        for offset in range(self.n):
            total *= np.uint64(_ODD)
            total += ids[offset : offset + count]
        return (total * np.uint64(_ODD)) >> np.uint64(64 - self._bits)

    def shared(self, texts: Iterable[str]) -> Iterator[Shared]:
        """For each text, the n-grams that it shares with any evaluation text."""
        waiting = iter(texts)
        while batch := list(islice(waiting, _BATCH)):
            yield from self._shared([tokens(text) for text in batch])

    def _shared(self, documents: list[list[str]]) -> list[Shared]:
        """The documents are searched as one array of word numbers, each followed by a 0, which no n-gram of the index contains:
        so no n-gram matches across two documents."""
        words = chain.from_iterable(chain(document, ("",)) for document in documents)
        ids = np.fromiter(map(self._words.get, words, repeat(0)), np.uint32)
        found: list[Shared] = [[] for _ in documents]
        if len(ids) < self.n:
            return found
        starts = np.flatnonzero(self._maybe[self._places(ids)])
        ends = np.cumsum([len(document) + 1 for document in documents])
        owners = np.searchsorted(ends, starts, side="right").tolist()
        for owner, gram in zip(owners, self._cut(ids, starts.tolist()), strict=True):
            number = self._grams.get(gram)
            if number is not None:
                found[owner].append(number)
        return found

    def forget_boilerplate(self, documents: Iterable[Shared], limit: int, tasks: Collection[str]) -> int:
        """Drop n-grams of `tasks` that occur in more than `limit` of `documents`: a phrase that a whole source repeats (the
        wording of a form, a licence) is no evidence about one document. Returns the number dropped."""
        mask = sum(1 << self._tasks.index(task) for task in tasks)
        seen = Counter(chain.from_iterable(set(shared) for shared in documents))
        common = [gram for gram, count in seen.items() if count > limit and self._tasks_of[gram] & mask]
        for gram in common:
            self._tasks_of[gram] &= ~mask
        return len(common)

    def contaminated(self, shared: Shared) -> str | None:
        """The task with which a document shares too many n-grams, or None. An n-gram of several tasks counts for each of
        them."""
        numbers = Counter(self._tasks_of[gram] for gram in shared)
        found: Counter[str] = Counter()
        for number, task in enumerate(self._tasks):
            found[task] = sum(count for tasks, count in numbers.items() if tasks >> number & 1)
        return next((task for task, count in found.most_common() if count and count >= self.hits[task]), None)
