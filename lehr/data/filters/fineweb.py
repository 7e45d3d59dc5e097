"""FineWeb's rules (Penedo et al. 2024, section 3.5)."""

from __future__ import annotations

from lehr.config.filters.quality import FineWebFilter
from lehr.data.document import Document
from lehr.data.filters.gopher_repetition import repeated_parts
from lehr.data.filters.thresholds import verdict
from lehr.data.sentences import TERMINAL_MARKS
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Filter, Keep

_REASONS = {
    "marked_lines": "too few lines end in a terminal mark",
    "short_lines": "too many short lines",
    "duplicate_line_characters": "duplicate lines",
    "newlines": "too many lines for its words",
}


def make(config: FineWebFilter) -> Filter:
    def fineweb(document: Document) -> Keep | Drop:
        text = document.text
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return Drop("too few words")
        newlines = text.count("\n")
        scores = {
            "marked_lines": sum(line.endswith(TERMINAL_MARKS) for line in lines) / len(lines),
            "short_lines": sum(len(line) <= config.short_line_characters for line in lines) / len(lines),
            "duplicate_line_characters": repeated_parts(lines)[1] / (len(text) - newlines),
            "newlines": newlines / text_of(text).count,
        }
        return verdict(config, scores, _REASONS)

    return fineweb
