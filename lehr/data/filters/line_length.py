"""The longest line of a document."""

from __future__ import annotations

from lehr.config.filters.text import LineLengthFilter
from lehr.data.document import Document
from lehr.data.verdict import Drop, Filter, Keep


def make(config: LineLengthFilter) -> Filter:
    def line_length(document: Document) -> Keep | Drop:
        longest = max(map(len, document.text.split("\n")))
        scores = {"line_length": float(longest)}
        return Drop("line too long", scores) if config.at_most is not None and longest > config.at_most else Keep(scores)

    return line_length
