"""A text as the filters see it: split into words and numbered once, for all filters that ask one after another."""

from __future__ import annotations

import re
import threading
from functools import cached_property

import numpy as np

from lehr.data.languages import FOREIGN, KNOWN, PIECES
from lehr.data.lexicon import SPACELESS, Lexicon

_PARTS = re.compile(f"[{SPACELESS}]|[^\\s{SPACELESS}]+")
_ANY = re.compile(f"[{SPACELESS}]")
_INSIDE = 0.6  # random letters have 3 to 7 % of such characters, clean paragraphs 9 % and more (measured: Japanese to Korean)
_EMPTY_LINES = re.compile(r"\n{2,}")


class Text:
    """What is computed of a text when it is first asked for. `lexicon` numbers its words."""

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.text, self.lexicon = text, lexicon

    @cached_property
    def words(self) -> list[str]:
        """What blanks separate; a character of a script without blanks is a word of its own."""
        if self.text.isascii() or _ANY.search(self.text) is None:
            return self.text.split()
        return _PARTS.findall(self.text)

    @cached_property
    def ids(self) -> np.ndarray:
        """The numbers of the words in `lexicon`, [words] int64."""
        return self.lexicon.numbers(self.words)

    @cached_property
    def spaceless(self) -> int:
        """How many of its words are characters of a script without blanks."""
        return 0 if self.text.isascii() else int(np.count_nonzero(self.lexicon.spaceless[self.ids]))

    @property
    def mostly_spaceless(self) -> bool:
        return 2 * self.spaceless > len(self.ids)

    @property
    def count(self) -> float:
        """The number of words, two characters of a script without blanks counting as one."""
        return len(self.ids) - self.spaceless / 2

    @cached_property
    def lines(self) -> list[str]:
        """What newlines separate, several of them counting as one: `re.split(r"\n+", text)`, six times as fast."""
        inner = [line for line in self.text.split("\n") if line]
        return [*[""] * self.text.startswith("\n"), *inner, *[""] * (self.text.endswith("\n") or not self.text)]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What empty lines separate."""
        text = self.text.strip()
        return _EMPTY_LINES.split(text) if "\n\n\n" in text else text.split("\n\n")

    def common(self, language: str) -> tuple[float, int] | None:
        """The share of its words that are among the commonest of `language`, and how many different stop words it has. None for
        a language without a list.

        In languages whose words are looked for inside the text it is the share of the characters of their script, less what
        chance finds there.
        """
        if language not in KNOWN:
            return None
        if pieces := PIECES.get(language):
            found = pieces.findall(self.text)
            characters = len(FOREIGN[language].sub("", self.text))
            return min(1.0, _INSIDE * sum(map(len, found)) / max(1, characters)), len(set(found))
        common, different = self.lexicon.common(self.ids, language)
        return common / max(1, len(self.ids)), different


class _Last(threading.local):
    def __init__(self) -> None:
        self.lexicon = Lexicon()
        self.text = Text("", self.lexicon)


_LAST = _Last()


def text_of(text: str) -> Text:
    """The `Text` of `text`: that of the last call if it is the same. Each thread has its own."""
    last = _LAST.text
    if last.text is text or last.text == text:
        return last
    if _LAST.lexicon.full:
        _LAST.lexicon = Lexicon()  # the old one stays with the texts that it numbered
    _LAST.text = last = Text(text, _LAST.lexicon)
    return last
