"""Sentences of running text, for what is judged sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Every alternative ends its match where it began to match: no text makes it go back, however long its runs of blanks.
_ENDS = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？])")


def sentences(text: str, longest: int) -> Iterator[str]:
    """The sentences of a text, without outer blanks. A line ends a sentence; one of more than `longest` characters is cut."""
    for found in _ENDS.split(text):
        whole = found.strip()
        for start in range(0, len(whole), longest):
            yield whole[start : start + longest]
