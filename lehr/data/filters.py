"""Document filters in the manner of Gopher (Rae et al. 2021, A1.1) and C4 (Raffel et al. 2020): each gives a reason.

Words are split once and interned; every statistic is then a count over small integers. Cheap rules come first.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np

from lehr.config.data import Filters
from lehr.data.repeats import repeats

_WORD = re.compile(r"\S+")
_LETTER = re.compile(r"[^\W\d_]")
_STRIP = ".,;:!?\"'()[]{}-–—`*_"

# The commonest words that tell these languages apart. A document belongs to the one whose words it has most of.
_PROFILES = {
    "en": "the and of to in that is was his with for he it as not be i they have on by this which at from "
    "but are thou you my a or will",
    "la": "et ad cum ut qui quae quod sed nec ab ex si te atque haec nunc hic sunt iam esse aut quam mihi tibi inter quoque",
    "it": "di che e la il non un per del si con gli una le dei da al della nel come ma",
    "fr": "de la le et les des en un du une que pour qui dans par au ce il sont avec cette",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als",
    "es": "de la que el en y los del se las por un para con no una su al lo como",
}
_LANGUAGES = list(_PROFILES)
_VOTES: dict[str, list[int]] = {}
for _number, _language in enumerate(_LANGUAGES):
    for _word in _PROFILES[_language].split():
        _VOTES.setdefault(_word, []).append(_number)
_STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])  # Gopher's eight


def language(words: list[str]) -> str:
    """The language whose commonest words make up the most of `words` (lower case), or "unknown" below 3 %."""
    votes = [0] * len(_LANGUAGES)
    for word in words:
        for number in _VOTES.get(word, ()):
            votes[number] += 1
    best = max(range(len(votes)), key=votes.__getitem__)
    return _LANGUAGES[best] if votes[best] >= max(1.0, 0.03 * len(words)) else "unknown"


def reject(text: str, text_type: str, config: Filters) -> str | None:
    """Why a document is to be dropped, or None. `text_type` is prose, reference (lists and tables allowed) or code."""
    words = _WORD.findall(text)
    if len(words) < config.min_words:
        return "too few words"
    if text_type == "code":
        if max(map(len, text.split("\n"))) > config.max_line_characters:
            return "line too long"
    else:
        reason = _prose(words, text, text_type, config)
        if reason:
            return reason
    if has_repeats(words, config.repeat_period, config.repeat_times):
        return "repeated n-gram"
    return None


def _prose(words: list[str], text: str, text_type: str, config: Filters) -> str | None:
    n = len(words)
    low, high = config.mean_word_length
    if not low <= (len(text) - text.count(" ") - text.count("\n")) / n <= high:
        return "mean word length"
    bare = [w.strip(_STRIP).lower() for w in words]
    found = language(bare)
    if found not in config.languages:
        return f"language {found}"
    if text_type == "prose" and sum(1 for w in words if _LETTER.search(w)) < config.min_alphabetic_words * n:
        return "too few alphabetic words"
    if sum(1 for w in bare if w in _STOP_WORDS) < config.min_stop_words:
        return "too few stop words"
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if len(lines) > 3 and 1 - len(set(lines)) / len(lines) > config.max_duplicate_lines:
        return "duplicate lines"
    if n >= 60:  # in fewer words a pair's share means little
        (_, top) = Counter(pairwise(bare)).most_common(1)[0]
        if 2 * top / n > config.max_top_bigram * (1 if text_type == "prose" else 2):
            return "one word pair too often"
    return None


def has_repeats(words: list[str], max_period: int, times: int) -> bool:
    """Whether some sequence of 1 to `max_period` words stands `times` or more full times in a row (OLMo 2 section 3.1)."""
    if len(words) < times:
        return False
    table: dict[str, int] = {}
    ids = np.fromiter((table.setdefault(w, len(table)) for w in words), dtype=np.int32, count=len(words))
    return repeats(ids, max_period, times)
