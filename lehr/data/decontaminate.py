"""Decontamination: no training document may contain n-grams of words of an evaluation example (OLMo 2 section 4.3; OLMo 1
section 2.4)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import Self

import numpy as np

from lehr.config.decontamination import Action, LeakedParagraphs
from lehr.data.ngram_words import tokens
from lehr.data.paragraph_index import Item, ParagraphIndex

_BATCH = 512  # documents searched in one NumPy call: most are short, and a call costs as much as a hundred words
_ODD = 0x9E3779B97F4A7C15  # multiplier of the rolling hash (Fibonacci hashing): 2^64 / golden ratio, made odd

Shared = list[int]  # numbers of the n-grams that a document shares with evaluation texts, in document order, with repeats


class Decontaminator:
    """An index of all word n-grams of the evaluation texts, by task. Texts shorter than `n` words cannot be found this way:

    short problems are excluded by their keys instead (lehr.data.synthetic.splits).
    Words of evaluation texts are numbered from 1, all other words are 0. An n-gram is known by 64 bits of its words' numbers,
    20 bytes of memory with its tasks and texts: in 10 million of them a wrong hit is expected once in 2e12 look-ups. A bit
    table, indexed by the same bits, is looked up first. Beside it stands the index of their whole paragraphs.
    """

    def __init__(
        self,
        texts: Mapping[str, Sequence[str]],
        n: int,
        hits: Mapping[str, int],
        paragraphs: LeakedParagraphs | None = None,
        action: Action = "remove",
    ) -> None:
        """`hits[task]`: the number of shared n-grams from which a document counts as contaminated by that task; `action`: what
        becomes of it."""
        self.n, self.hits, self.action, self._tasks, self.texts = n, dict(hits), action, list(texts), texts
        self.paragraphs = ParagraphIndex(texts, paragraphs) if paragraphs else None
        self._words: dict[str, int] = {}
        learnt = [[self._learn(tokens(text)) for text in texts[task]] for task in self._tasks]
        self._texts_before = np.cumsum([0, *map(len, learnt)])
        owners = np.repeat(np.arange(self._texts_before[-1], dtype=np.int32), [len(g) for found in learnt for g in found])
        all_grams = np.concatenate([np.zeros(0, np.uint64), *(grams for found in learnt for grams in found)])
        del learnt  # as much as the n-grams: each array is let go before the next is made
        order = np.argsort(all_grams, kind="stable").astype(np.min_scalar_type(len(all_grams)))
        all_grams, owners = all_grams[order], owners[order]
        del order
        first = np.append(True, all_grams[1:] != all_grams[:-1])[: len(all_grams)]
        self._grams = all_grams[first]
        # Of each n-gram the texts that have it, counted over all tasks: those from its start to the next one's.
        self._starts, self._owners = np.append(np.flatnonzero(first), len(all_grams)), owners
        del all_grams
        # Of each n-gram a bit for each task in whose texts it occurs.
        self._tasks_of = np.zeros((len(self._grams), -(-max(1, len(self._tasks)) // 64)), np.uint64)
        numbers = np.cumsum(first, dtype=np.int32) - 1
        for task, (begin, end) in enumerate(pairwise(self._texts_before.tolist())):
            found = numbers[(owners >= begin) & (owners < end)]
            self._tasks_of[found, task // 64] |= np.uint64(1 << task % 64)
        self._make_table()

    def _make_table(self) -> None:
        # Eight bits or more for each n-gram: at most one in eight look-ups passes by chance.
        self._shift = np.uint64(64 - max(16, (8 * len(self._grams)).bit_length()))
        self._maybe = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._maybe[self._grams >> self._shift] = True

    def save(self, folder: Path) -> None:
        """Write it into `folder`, for other processes of this machine."""
        words = {"words": list(self._words), "tasks": self._tasks, "hits": self.hits, "n": self.n}
        (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
        np.save(folder / "grams.npy", self._grams, allow_pickle=False)
        np.save(folder / "tasks.npy", self._tasks_of, allow_pickle=False)
        if self.paragraphs:
            self.paragraphs.save(folder)

    @classmethod
    def load(cls, folder: Path, paragraphs: LeakedParagraphs | None = None) -> Self:
        """What `save` wrote; the n-grams are mapped, so that processes share them."""
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        found = cls({}, words["n"], words["hits"])
        found._tasks, found._words = words["tasks"], {word: number for number, word in enumerate(words["words"], 1)}
        found._grams = np.load(folder / "grams.npy", mmap_mode="r", allow_pickle=False)
        found._tasks_of = np.load(folder / "tasks.npy", mmap_mode="r", allow_pickle=False)
        found.paragraphs = ParagraphIndex.load(folder, paragraphs) if paragraphs else None
        found._make_table()
        return found

    def __len__(self) -> int:
        """The number of its n-grams."""
        return len(self._grams)

    def _learn(self, words: list[str]) -> np.ndarray:
        ids = [self._words.setdefault(word, len(self._words) + 1) for word in words]
        return self._hashes(np.array(ids, np.uint32))

    def _hashes(self, ids: np.ndarray) -> np.ndarray:
        """64 bits of each n-gram, uint64: a polynomial of its words' numbers, each spread over 64 bits before. That is a sum of
        independent random values but for the multiplier, so all bits of it can be used."""
        spread = ids.astype(np.uint64) * np.uint64(_ODD)
        spread ^= spread >> np.uint64(29)
        spread *= np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's
        spread ^= spread >> np.uint64(32)
        count = max(0, len(ids) - self.n + 1)
        total = np.zeros(count, np.uint64)
        for offset in range(self.n):
            total *= np.uint64(_ODD)
            total += spread[offset : offset + count]
        total ^= total >> np.uint64(32)
        total *= np.uint64(_ODD)
        return total

    def items(self, shared: Shared) -> Counter[Item]:
        """The texts in which the n-grams `shared` occur -> how many of them. Only of an index that was not loaded."""
        found: Counter[Item] = Counter()
        for gram, times in Counter(shared).items():
            for text in np.unique(self._owners[self._starts[gram] : self._starts[gram + 1]]).tolist():
                task = int(np.searchsorted(self._texts_before, text, side="right")) - 1
                if self._remembers(gram, task):
                    found[self._tasks[task], int(text - self._texts_before[task])] += times
        return found

    def _remembers(self, gram: int, task: int) -> bool:
        return bool(int(self._tasks_of[gram, task // 64]) >> (task % 64) & 1)

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
        if len(ids) < self.n or not len(self._grams):
            return found
        hashes = self._hashes(ids)
        starts = np.flatnonzero(self._maybe[hashes >> self._shift])
        numbers = np.minimum(np.searchsorted(self._grams, hashes[starts]), len(self._grams) - 1)
        same = self._grams[numbers] == hashes[starts]
        ends = np.cumsum([len(document) + 1 for document in documents])
        owners = np.searchsorted(ends, starts[same], side="right").tolist()
        for owner, number in zip(owners, numbers[same].tolist(), strict=True):
            found[owner].append(number)
        return found

    def forget_common(self, seen: np.ndarray, limit: int, tasks: Collection[str]) -> int:
        """Drop n-grams of `tasks` that occur in more than `limit` documents, that of number i in seen[i] (int64): a phrase
        that a whole source repeats (the wording of a form, a licence) is no evidence about one document. Returns the number
        dropped."""
        mask = np.zeros(self._tasks_of.shape[1], np.uint64)
        for number in map(self._tasks.index, tasks):
            mask[number // 64] |= np.uint64(1 << number % 64)
        common = (seen > limit) & (self._tasks_of & mask).any(axis=1)
        self._tasks_of = np.where(common[:, None], self._tasks_of & ~mask, self._tasks_of)
        return int(np.count_nonzero(common))

    def counts(self, shared: Shared) -> Counter[str]:
        """Task -> how many of the n-grams `shared` stand in its texts. One of several tasks counts for each of them."""
        numbers = Counter(map(bytes, self._tasks_of[np.array(shared, np.int64)])) if shared else Counter[bytes]()
        found: Counter[str] = Counter()
        for number, task in enumerate(self._tasks):
            bit = 1 << number
            if count := sum(count for tasks, count in numbers.items() if int.from_bytes(tasks, "little") & bit):
                found[task] = count
        return found

    def suspects(self, text: str, shared: Shared) -> list[int]:
        """The keys of a document's paragraphs that may be those of an evaluation text; `shared` are its n-grams."""
        if self.paragraphs is None:
            return []
        # A paragraph of n words or more shares n-grams; where words have no blanks between them, there are none to share.
        if not shared and self.n <= self.paragraphs.config.min_words and text.isascii():
            return []
        return self.paragraphs.suspects(text)
