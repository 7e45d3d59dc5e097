"""Gopher's repetition rules (Rae et al. 2021, Table A1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lehr.config.filters.quality import GopherRepetitionFilter
from lehr.data.document import Document
from lehr.data.filters.thresholds import verdict
from lehr.data.ngrams import duplicated, repeated
from lehr.data.text import Text, text_of
from lehr.data.verdict import Drop, Filter, Keep

_TOP, _DUPLICATE = range(2, 5), range(5, 11)  # lengths of sequences
_REASONS = {
    "duplicate_paragraphs": "duplicate paragraphs",
    "duplicate_paragraph_characters": "duplicate paragraphs",
    "duplicate_lines": "duplicate lines",
    "duplicate_line_characters": "duplicate lines",
    **{f"top_{n}grams": "one n-gram too often" for n in _TOP},
    **{f"duplicate_{n}grams": "duplicate n-grams" for n in _DUPLICATE},
}


def make(config: GopherRepetitionFilter) -> Filter:
    def gopher_repetition(document: Document) -> Keep | Drop:
        if not document.text:
            return Keep()  # of nothing, nothing is repeated
        text = text_of(document.text)
        return verdict(config, _of_lines(text) | _of_sequences(text), _REASONS)

    return gopher_repetition


def _of_lines(text: Text) -> dict[str, float]:
    scores = {}
    for name, parts in (("paragraph", text.paragraphs), ("line", text.lines)):
        count, characters = repeated_parts(parts)
        scores[f"duplicate_{name}s"] = count / len(parts)
        scores[f"duplicate_{name}_characters"] = characters / len(text.text)
    return scores


def repeated_parts(parts: Sequence[str]) -> tuple[int, int]:
    """How many of the texts stood before, and their characters."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen, count, characters = set[str](), 0, 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        else:
            seen.add(part)
    return count, characters


def _of_sequences(text: Text) -> dict[str, float]:
    ids = text.ids
    ends = np.concatenate([[0], np.cumsum(text.lexicon.characters[ids])])
    # Two characters of a script without blanks are one word, and nothing stands between them.
    each, gap = (2, 0) if text.mostly_spaceless else (1, 1)
    scores = {}
    for found in repeated(ids, each * _DUPLICATE[-1]):
        n, odd = divmod(found.n, each)
        if odd or n < _TOP[0]:
            continue
        if n in _TOP:
            last = found.top + found.n
            length = int(ends[last] - ends[found.top]) + gap * (found.n - 1) if last < len(ends) else 0
            scores[f"top_{n}grams"] = found.times * length / len(text.text)
        else:
            scores[f"duplicate_{n}grams"] = duplicated(found, ends) / len(text.text)
    return scores
