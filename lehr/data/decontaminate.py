"""Decontamination: no training document may hold runs of words of an evaluation example (OLMo 2 section 5 and 2.4)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_TOKEN = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers, punctuation apart."""
    return _TOKEN.findall(text.lower())


class Decontaminator:
    """An index of all word n-grams of the evaluation texts, by task. Texts shorter than `n` words cannot be found
    this way: short problems are kept apart by their keys instead (lehr.data.synthetic.splits)."""

    def __init__(self, texts: Mapping[str, Sequence[str]], n: int, hits: Mapping[str, int]) -> None:
        """`hits[task]`: from how many shared n-grams on a document counts as contaminated by that task."""
        self.n, self.hits = n, hits
        self._tasks = list(texts)
        self._grams: dict[tuple[str, ...], int] = {}
        self._first: set[str] = set()
        for number, task in enumerate(self._tasks):
            for text in texts[task]:
                words = tokens(text)
                for start in range(len(words) - n + 1):
                    self._grams.setdefault(tuple(words[start : start + n]), number)
                    self._first.add(words[start])

    def forget_boilerplate(self, texts: Iterable[str], limit: int, tasks: Collection[str]) -> int:
        """Drop n-grams of `tasks` that stand in more than `limit` of `texts`: a phrase that a whole source repeats (a
        form's wording, a licence) tells nothing about one document. Returns how many were dropped."""
        numbers = {self._tasks.index(task) for task in tasks}
        seen: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            seen.update(set(self._found(text)))
        common = [gram for gram, count in seen.items() if count > limit and self._grams[gram] in numbers]
        for gram in common:
            del self._grams[gram]
        return len(common)

    def _found(self, text: str) -> Iterator[tuple[str, ...]]:
        words = tokens(text)
        grams, n, first = self._grams, self.n, self._first
        for start in range(len(words) - n + 1):
            if words[start] in first:
                gram = tuple(words[start : start + n])
                if gram in grams:
                    yield gram

    def contaminated(self, text: str) -> str | None:
        """The task that a document shares too many n-grams with, or None."""
        found = Counter(self._tasks[self._grams[gram]] for gram in self._found(text))
        return next((task for task, count in found.most_common() if count >= self.hits[task]), None)
