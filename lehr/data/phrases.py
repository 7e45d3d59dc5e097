"""A list of words and phrases, looked for in texts without regard to case and punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lehr.data.lines import lines
from lehr.runtime.errors import UserError

_WORD = re.compile(r"\w+")
_LONGEST = 1000  # bytes of a line


class Phrases:
    """`count(text)`: how often one of the phrases occurs, as whole words. Linear in the text: a phrase is looked for only where
    its first word stands, and the longest that matches there counts alone."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in {tuple(_WORD.findall(phrase.lower())) for phrase in phrases}:
            if phrase:
                self._by_first.setdefault(phrase[0], []).append(phrase)
        for those in self._by_first.values():
            those.sort(key=lambda phrase: (-len(phrase), phrase))

    @staticmethod
    def read(path: str) -> Phrases:
        """One a line; lines that begin with # are comments. Raises UserError for a file that is missing, damaged or empty."""
        try:
            said = [raw.decode("utf-8").strip() for _, raw in lines(Path(path), _LONGEST)]
        except UnicodeDecodeError:
            raise UserError("invalid UTF-8", where=path, remedy="re-encode the file as UTF-8") from None
        found = Phrases(line for line in said if not line.startswith("#"))
        if not found._by_first:
            raise UserError("no words in this file", where=path, remedy="write one word or phrase a line")
        return found

    def count(self, text: str) -> int:
        if not self._by_first:
            return 0
        words, found, place = _WORD.findall(text.lower()), 0, 0
        while place < len(words):
            known = self._by_first.get(words[place], ())
            fits = next((len(phrase) for phrase in known if tuple(words[place : place + len(phrase)]) == phrase), 0)
            found += fits > 0
            place += max(fits, 1)
        return found
