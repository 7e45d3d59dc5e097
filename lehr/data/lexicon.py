"""The properties of words that the document filters need, computed once for each word: a document is then an array of
numbers."""

from __future__ import annotations

import re

import numpy as np

from lehr.data.languages import GOPHER, WORDS

_STRIP = ".,;:!?\"'()[]{}<>-–—`*_’‘“”„‚«»‹›…،؛؟"
_MOST = 1 << 20  # words remembered: bounds the memory
_ROOM = 1 << 12  # initial size of the arrays, which double when full
_SIGN = re.compile(r"[\W_]+")
_SYLLABLE = re.compile("[가-힣]")

# Scripts that are written without blanks: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han.
SPACELESS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_SPACELESS = re.compile(f"[{SPACELESS}]")

_STOPS = sorted({*GOPHER, *(word for words in WORDS.values() for word in words)})
# For each language: whether each of _STOPS is one of its commonest words. Their numbers are the first of all bare forms.
_COMMON = {language: np.array([word in words for word in _STOPS]) for language, words in WORDS.items()}
_EIGHT = np.array([word in GOPHER for word in _STOPS])


class Lexicon(dict[str, int]):
    """Numbers for words, in order of first occurrence. The arrays are indexed by word number."""

    def __init__(self) -> None:
        super().__init__()
        self._new: list[str] = []
        self.bares = {word: number for number, word in enumerate(_STOPS)}  # words without case and outer punctuation
        self.bare = np.zeros(_ROOM, np.int64)  # the number of each word's bare form
        self.characters = np.zeros(_ROOM, np.int64)
        self.letters = np.zeros(_ROOM, np.int64)  # as its mean length counts them: a Korean syllable as two
        self.alphabetic = np.zeros(_ROOM, np.bool_)  # has a letter
        self.signs = np.zeros(_ROOM, np.bool_)  # has neither letters nor digits
        self.spaceless = np.zeros(_ROOM, np.bool_)  # a character of a script without blanks

    @property
    def full(self) -> bool:
        """Whether so many words are known that a new lexicon should take its place."""
        return len(self) > _MOST

    def numbers(self, words: list[str]) -> np.ndarray:
        """The numbers of `words`; new ones are learnt."""
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
        names = ("bare", "characters", "letters", "alphabetic", "signs", "spaceless")
        while size > len(self.bare):
            for name in names:
                kept = getattr(self, name)
                setattr(self, name, np.concatenate([kept, np.zeros_like(kept)]))
        new, first = self._new, size - len(self._new)
        self.bare[first:size] = [self.bares.setdefault(w.strip(_STRIP).lower(), len(self.bares)) for w in new]
        self.characters[first:size] = list(map(len, new))
        self.letters[first:size] = [len(w) if w.isascii() else len(w) + len(_SYLLABLE.findall(w)) for w in new]
        self.alphabetic[first:size] = [any(map(str.isalpha, w)) for w in new]
        self.signs[first:size] = [_SIGN.fullmatch(w) is not None for w in new]
        self.spaceless[first:size] = [not w.isascii() and _SPACELESS.match(w) is not None for w in new]
        self._new = []

    def common(self, ids: np.ndarray, language: str) -> tuple[int, int]:
        """Of the words `ids`, the number that are among the commonest of `language`, and how many different stop words they
        have: Gopher's eight in English, its commonest words in another language."""
        bare = self.bare[ids]
        counts = np.bincount(bare[bare < len(_STOPS)], minlength=len(_STOPS))
        common = counts * _COMMON[language]
        return int(common.sum()), int(np.count_nonzero(counts * _EIGHT if language == "en" else common))
