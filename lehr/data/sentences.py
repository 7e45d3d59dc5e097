"""Where sentences end, in any script."""

from __future__ import annotations

import re

# Unicode's Sentence_Terminal, for the scripts of the languages that Lehr recognises.
TERMINAL_MARKS = tuple(".?!։؟۔܂።፧।॥။។៕᙮‼‽⁇⁈⁉⸮。！．？｡﹒﹖﹗")
_MARKS, _DOTS = "?!։؟۔።፧።॥།။។‼‽⁇⁈⁉。！？｡", ".．"
# A run of marks is looked at from its beginning and never again: its length costs once.
_END = re.compile(
    f"(?:(?<![{_MARKS}])[{_MARKS}]++"
    f"|(?<![A-Z{_DOTS}])[{_DOTS}]++|(?<=[A-Z])[{_DOTS}]{{2,}}+)"  # no initial, as in J. R. Smith
    "[\"'”’»)\\]]*+(?=\\s|$)|[。！？｡]"
)


def split(text: str) -> list[str]:
    """Its sentences: they end with a mark at the end of a word, and what stands after the last one is one too. A rule of thumb:
    no abbreviations are known but initials."""
    ends = [match.end() for match in _END.finditer(text)]
    if any(map(str.isalnum, text[ends[-1] if ends else 0 :])):
        ends.append(len(text))
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def sentences(text: str) -> int:
    """How many sentences there are."""
    return len(split(text))
