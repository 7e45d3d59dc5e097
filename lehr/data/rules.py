"""Document filters after Gopher (Rae et al. 2021, A1.1) and C4 (Raffel et al. 2020); each returns the reason to drop.

Words are split once and numbered, so that every statistic is a look-up in an array. Cheap rules come first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from lehr.config.data import Filters
from lehr.data.lexicon import Lexicon
from lehr.data.repeats import repeats
from lehr.runtime.plugins import resolve

_LEXICON = Lexicon()


def reject(text: str, text_type: str, config: Filters) -> str | None:
    """The reason to drop a document, or None. `text_type` is prose, reference (lists and tables allowed) or code."""
    words = text.split()
    if len(words) < max(config.min_words, 1):
        return "too few words"
    ids = _LEXICON.numbers(words)
    if text_type == "code":
        if max(map(len, text.split("\n"))) > config.max_line_characters:
            return "line too long"
    else:
        reason = _prose(ids, text, text_type, config)
        if reason:
            return reason
    if repeats(ids, config.repeat_period, config.repeat_times):
        return "repeated n-gram"
    return next((reason for name in config.more if (reason := own_filter(name)(text, text_type))), None)


@cache
def own_filter(name: str) -> Callable[[str, str], str | None]:
    """The filter named `module:function`. Raises UserError if there is none."""
    return resolve("filter", name, {})


def _prose(ids: np.ndarray, text: str, text_type: str, config: Filters) -> str | None:
    n = len(ids)
    low, high = config.mean_word_length
    if not low <= (len(text) - text.count(" ") - text.count("\n")) / n <= high:
        return "mean word length"
    found = _LEXICON.language(ids)
    if found not in config.languages:
        return f"language {found}"
    if text_type == "prose" and np.count_nonzero(_LEXICON.letters[ids]) < config.min_alphabetic_words * n:
        return "too few alphabetic words"
    if _LEXICON.stop_words(ids, found) < config.min_stop_words:
        return "too few stop words"
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if len(lines) > 3 and 1 - len(set(lines)) / len(lines) > config.max_duplicate_lines:
        return "duplicate lines"
    if n >= 60:  # in shorter texts the share of one pair is too noisy
        allowed = config.max_top_bigram * (1 if text_type == "prose" else 2)  # lists and tables repeat their words
        if 2 * _LEXICON.top_pair(ids) / n > allowed:
            return "one word pair too often"
    return None
