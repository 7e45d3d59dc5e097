"""The properties of words that the document filters need, computed once for each word: a document is then an array of
numbers."""

from __future__ import annotations

import re

import numpy as np

from lehr.config.data import LANGUAGES

_LETTER = re.compile(r"[^\W\d_]")
_STRIP = ".,;:!?\"'()[]{}-–—`*_"
_MOST = 1 << 20  # words remembered: bounds the memory
_ROOM = 1 << 12  # initial size of the arrays, which double when full

# The commonest words that distinguish these languages. A document's language is the one with the most occurrences in it.
_PROFILES = {
    "en": "the and of to in that is was his with for he it as not be i they have on by this which at from "
    "but are thou you my a or will",
    "la": "et ad cum ut qui quae quod sed nec ab ex si te atque haec nunc hic sunt iam esse aut quam mihi tibi inter quoque",
    "it": "di che e la il non un per del si con gli una le dei da al della nel come ma",
    "fr": "de la le et les des en un du une que pour qui dans par au ce il sont avec cette",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als",
    "es": "de la que el en y los del se las por un para con no una su al lo como",
    "pt": "de que e o da em para com não uma os por mais dos se foi ao das à pelo são seu mas",  # no "um", no "NA"
    "nl": "de van het een en dat niet te op aan met voor zijn er maar om dan ook naar bij uit werd worden",
}
_VOTES: dict[str, list[int]] = {}
for _number, _language in enumerate(LANGUAGES):
    for _word in _PROFILES[_language].split():
        _VOTES.setdefault(_word, []).append(_number)
_STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])  # Gopher's eight


class Lexicon(dict[str, int]):
    """Numbers for words, in order of first occurrence. `bare`, `letters`, `stops` and `votes` are indexed by word number."""

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        self.clear()
        self._new: list[str] = []
        self.bares: dict[str, int] = {}  # words without case and outer punctuation
        self.bare = np.zeros(_ROOM, np.int64)  # the number of each word's bare form
        self.letters, self.stops = np.zeros(_ROOM, np.bool_), np.zeros(_ROOM, np.bool_)
        self.votes = np.zeros((_ROOM, len(LANGUAGES)), np.int16)

    def numbers(self, words: list[str]) -> np.ndarray:
        """The numbers of `words`. If too many are known, all are forgotten first, and earlier numbers become invalid."""
        if len(self) > _MOST:
            self._forget()
        ids = np.fromiter(map(self.__getitem__, words), np.int64, len(words))
        if self._new:
            self._learn()
        return ids

    def __missing__(self, word: str) -> int:
        self._new.append(word)
        number = self[word] = len(self)
        return number

    def _learn(self) -> None:
        """Compute the properties of the new words."""
        size = len(self)
        while size > len(self.bare):
            self.bare, self.letters, self.stops, self.votes = (
                np.concatenate([kept, np.zeros_like(kept)]) for kept in (self.bare, self.letters, self.stops, self.votes)
            )
        first, bare = size - len(self._new), [word.strip(_STRIP).lower() for word in self._new]
        self.bare[first:size] = [self.bares.setdefault(b, len(self.bares)) for b in bare]
        self.letters[first:size] = [_LETTER.search(word) is not None for word in self._new]
        for number, b in enumerate(bare, first):
            if b in _STOP_WORDS:
                self.stops[number] = True
            for language in _VOTES.get(b, ()):
                self.votes[number, language] += 1
        self._new = []

    def language(self, ids: np.ndarray) -> str:
        """The language whose commonest words occur most among the words `ids`, or "unknown" if they are below 3 %."""
        votes = self.votes[ids].sum(0, dtype=np.int64)
        best = int(votes.argmax())
        return LANGUAGES[best] if votes[best] >= max(1.0, 0.03 * len(ids)) else "unknown"

    def stop_words(self, ids: np.ndarray, language: str) -> int:
        """The number of stop words among the words `ids`: Gopher's eight in English and in unknown languages, otherwise the
        language's own commonest words."""
        own = language in LANGUAGES and language != "en"
        return int(np.count_nonzero(self.votes[ids, LANGUAGES.index(language)] if own else self.stops[ids]))

    def top_pair(self, ids: np.ndarray) -> int:
        """The count of the commonest pair of neighbouring words, without case and outer punctuation."""
        bare = self.bare[ids]
        pairs = np.sort(bare[:-1] * len(self.bares) + bare[1:])
        edges = np.flatnonzero(pairs[1:] != pairs[:-1])
        return int(np.diff(edges, prepend=-1, append=len(pairs) - 1).max())
