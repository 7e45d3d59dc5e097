"""The number of words of a document."""

from __future__ import annotations

from lehr.config.filters.text import WordsFilter
from lehr.data.document import Document
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Filter, Keep


def make(config: WordsFilter) -> Filter:
    # An empty document has too few words whatever is asked: nothing can be trained on it.
    least, most = max(config.at_least or 0, 1), config.at_most

    def words(document: Document) -> Keep | Drop:
        count = text_of(document.text).count
        scores = {"words": count}
        # A single character of a script without blanks counts as half a word; it is no empty document.
        if not count or (least > 1 and count < least):
            return Drop("too few words", scores)
        return Drop("too many words", scores) if most is not None and count > most else Keep(scores)

    return words
