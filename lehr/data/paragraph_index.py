"""The paragraphs of evaluation texts: a Bloom filter to look documents up in, and exact hashes to be sure of what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lehr.config.decontamination import LeakedParagraphs
from lehr.data.dedup.bloom import Bloom
from lehr.data.dedup.paragraphs import paragraph_key
from lehr.data.dedup.shingles import characters_without_blanks
from lehr.data.joins import I64, U64
from lehr.data.ngram_words import tokens

Item = tuple[str, int]  # a task, and the number of its text


class ParagraphIndex:
    """A paragraph is a line; see lehr.config.decontamination.LeakedParagraphs. Words are those of n-grams, and each character
    of a script without blanks is one. 12 bytes of memory for each paragraph, and the filter's 3 at the default rate."""

    def __init__(self, texts: Mapping[str, Sequence[str]], config: LeakedParagraphs) -> None:
        self.config = config
        self._tasks = list(texts)
        found = [self._unique(text) for task in self._tasks for text in texts[task]]
        self._texts_before = np.cumsum([0, *(len(texts[task]) for task in self._tasks)])
        owners = np.repeat(np.arange(len(found), dtype=np.int32), [len(keys) for keys in found])
        keys = np.concatenate([np.zeros(0, np.uint64), *found])
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], owners[order]
        different = np.unique(keys)
        self.bloom = Bloom(max(1, len(different)), config.false_positives)
        self.bloom.put(different)

    def _unique(self, text: str) -> U64:
        lines = (line for line in text.split("\n") if self._counts(line))
        return np.array(list(dict.fromkeys(map(paragraph_key, lines))), np.uint64)

    def _counts(self, line: str) -> bool:
        least = self.config.min_words
        if len(line) < least:
            return False
        words = len(tokens(line))
        return words >= least or (not line.isascii() and words + characters_without_blanks(line) >= least)

    def suspects(self, text: str) -> list[int]:
        """The keys of a document's paragraphs that the Bloom filter knows, each once, in order."""
        keys = self._unique(text)
        found: list[int] = keys[self.bloom.known(keys)].tolist() if len(keys) else []
        return found

    def _rows(self, key: int) -> I64:
        """Where this key stands among all; nowhere if only the Bloom filter knows it. Only of an index that was not loaded."""
        wanted = np.uint64(key)
        return np.arange(*(np.searchsorted(self._keys, wanted, side) for side in ("left", "right")), dtype=np.int64)

    def items(self, keys: Iterable[int]) -> Counter[Item]:
        """The texts that have these paragraphs -> how many of them."""
        return Counter(item for key in keys for item in self._items(self._owners[self._rows(key)].tolist()))

    def _items(self, owners: Iterable[int]) -> Iterator[Item]:
        for owner in owners:
            if owner >= 0:
                task = int(np.searchsorted(self._texts_before, owner, side="right")) - 1
                yield self._tasks[task], int(owner - self._texts_before[task])

    def mistaken(self, keys: Iterable[int]) -> int:
        """How many of these keys only the Bloom filter knows."""
        return sum(not len(self._rows(key)) for key in keys)

    def forget_common(self, seen: Mapping[int, int], limit: int, tasks: Collection[str]) -> int:
        """Drop paragraphs of `tasks` that stand in more than `limit` documents; `seen`: key -> documents. Returns how many."""
        common = 0
        for key in (key for key, documents in seen.items() if documents > limit):
            rows = self._rows(key)
            those = [item[0] in tasks for item in self._items(self._owners[rows].tolist())]
            if any(those):
                self._owners[rows[self._owners[rows] >= 0][those]] = -1
                common += 1
        return common

    def save(self, folder: Path) -> None:
        """Write what other processes look documents up in."""
        sizes = np.array([self.bloom.bits, self.bloom.hashes])
        np.savez(folder / "paragraphs.npz", content=self.bloom.content, sizes=sizes)

    @classmethod
    def load(cls, folder: Path, config: LeakedParagraphs) -> ParagraphIndex:
        """What `save` wrote: an index that finds suspects."""
        found = cls({}, config)
        with np.load(folder / "paragraphs.npz", allow_pickle=False) as saved:
            bits, hashes = saved["sizes"].tolist()
            found.bloom = Bloom.of(saved["content"], bits, hashes)
        return found
