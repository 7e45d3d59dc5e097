"""Where sentences end, in any script."""

from __future__ import annotations

import re
import unicodedata

# Unicode's Sentence_Terminal, for the scripts of the languages that Lehr recognises.
TERMINAL_MARKS = tuple(".?!։؟۔܂።፧।॥။។៕᙮‼‽⁇⁈⁉⸮。！．？｡﹒﹖﹗")
_END = re.compile(
    "(?:[?!։؟۔።፧।॥။។‼‽⁇⁈⁉。！？｡]+|(?<![A-Z])[.．]+)"  # no initial, as in J. R. Smith
    "[\"'”’»)\\]]*(?=\\s|$)|[。！？｡]"
)


def sentences(text: str) -> int:
    """How many there are: marks at the end of a word, and what stands after the last one. A rule of thumb: no abbreviations are
    known but initials."""
    ends = [match.end() for match in _END.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    return len(ends) + any(unicodedata.category(c)[0] in "LN" for c in rest)
