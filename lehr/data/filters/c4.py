"""The rules of C4 (Raffel et al. 2020, section 2.2), as its code has them."""

from __future__ import annotations

import re
from dataclasses import replace

from lehr.config.filters.quality import C4Filter
from lehr.data.document import Document
from lehr.data.filters.thresholds import verdict
from lehr.data.sentences import TERMINAL_MARKS, sentences
from lehr.data.verdict import Drop, Filter, Keep

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_ENDS = (*TERMINAL_MARKS, '"', "'", "”", "’", "」", "』", "»")
_ELLIPSIS = ("...", "…")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class _Refused(Exception):
    """The whole document is dropped."""


def make(config: C4Filter) -> Filter:
    def left(line: str) -> str:
        """A line without its citations, or "" if it is taken out. Raises _Refused with a reason."""
        if config.max_word_characters is not None and len(line) > config.max_word_characters:
            if max(map(len, line.split())) > config.max_word_characters:
                return ""
        words = len(line.split()) if config.min_line_words else 0
        if config.citations and "[" in line:
            line = _CITATION.sub("", line)
        if config.terminal_marks and (not line.endswith(_ENDS) or line.endswith(_ELLIPSIS)):
            return ""
        if config.min_line_words and words < config.min_line_words and not _spaceless(line):
            return ""
        lower = line.lower()
        if config.lorem_ipsum and "lorem ipsum" in lower:
            raise _Refused("lorem ipsum")
        if config.javascript and "javascript" in lower:
            return ""
        if config.curly_brackets and "{" in line:
            raise _Refused("curly bracket")
        return "" if config.policies and any(phrase in lower for phrase in _POLICIES) else line

    def c4(document: Document) -> Keep | Drop:
        lines = document.text.splitlines()
        try:
            kept = [line for raw in lines if (line := left(raw.strip()))]
        except _Refused as reason:
            return Drop(str(reason))
        scores = {"lines": len(kept) / max(1, len(lines)), "sentences": sum(map(sentences, kept))}
        found = verdict(config, scores, {"sentences": "too few sentences"})
        text = "\n".join(kept).strip()
        if isinstance(found, Drop) or text == document.text:
            return found
        return Keep(found.scores, replace(document, text=text)) if text else Drop("too few sentences", found.scores)

    return c4


def _spaceless(line: str) -> bool:
    """Whether a line without blanks has words all the same: it is longer than words are."""
    return not line.isascii() and len(line) > 10 and " " not in line
