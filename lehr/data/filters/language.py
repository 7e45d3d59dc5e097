"""The language of a document."""

from __future__ import annotations

from dataclasses import replace

from lehr.config.filters.text import UNKNOWN, LanguageFilter
from lehr.data.document import Document
from lehr.data.identify import identify
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Filter, Keep, Scores

_BEGINNING = 2000  # characters, in which the letters are counted first


def make(config: LanguageFilter) -> Filter:
    def language(document: Document) -> Keep | Drop:
        found, scores = language_of(document.text, config)
        if found not in config.keep:
            return Drop(f"language {found}", scores)
        if document.language or found == UNKNOWN:
            return Keep(scores)
        return Keep(scores, replace(document, language=found))

    return language


def language_of(text: str, config: LanguageFilter) -> tuple[str, Scores]:
    """The language, `unknown` below the thresholds of `config`, and the scores that are held against them."""
    language, confidence = identify(text)
    scores = {"language.confidence": confidence}
    common = text_of(text).common(language)  # None: the language's commonest words are not known here
    if common is not None:
        scores["language.common_words"] = common[0]
    doubtful = config.min_confidence is not None and confidence < config.min_confidence
    strange = config.min_common_words is not None and common is not None and common[0] < config.min_common_words
    return UNKNOWN if doubtful or strange or _short(text, config.min_letters or 0) else language, scores


def _short(text: str, least: int) -> bool:
    return sum(map(str.isalpha, text[:_BEGINNING])) < least and sum(map(str.isalpha, text)) < least
