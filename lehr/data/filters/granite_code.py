"""Granite 3.0's rules for code (section 3.1)."""

from __future__ import annotations

import string
from html.parser import HTMLParser

from lehr.config.filters.repositories import GraniteCodeFilter
from lehr.data.document import Document
from lehr.data.filters.metadata import text as metadata_text
from lehr.data.filters.thresholds import verdict
from lehr.data.verdict import Drop, Filter, Keep

_LETTERS = string.ascii_letters.encode()
_HIDDEN = ("script", "style", "head", "template", "noscript")
_KINDS = {"html": "html", "htm": "html", "xhtml": "html", "json": "data", "yaml": "data", "yml": "data"}
_REASONS = {
    "letters": "too few letters",
    "html_text": "too little visible text",
    "html_text_characters": "too little visible text",
    "min_data_characters": "data too short",
    "max_data_characters": "data too long",
    "mean_line": "lines too long",
    "longest_line": "line too long",
}


def make(config: GraniteCodeFilter) -> Filter:
    def granite_code(document: Document) -> Keep | Drop:
        text = document.text
        lines = text.split("\n")
        scores = {"letters": _letters(text) / max(1, len(text))}
        kind = _kind(document, config)
        if kind == "html":
            visible = len(_visible(text))
            scores |= {"html_text": visible / max(1, len(text)), "html_text_characters": visible}
        elif kind == "data":
            scores |= {"data_characters": len(text)}
        scores |= {"mean_line": (len(text) - len(lines) + 1) / len(lines), "longest_line": max(map(len, lines))}
        found = verdict(config, scores, _REASONS)
        if isinstance(found, Keep) and config.xml_within and "<?xml version=" in text[: config.xml_within]:
            return Drop("XML", found.scores)
        return found

    return granite_code


def _letters(text: str) -> int:
    if text.isascii():
        return len(text) - len(text.encode().translate(None, _LETTERS))
    return sum(map(str.isalpha, text))


def _kind(document: Document, config: GraniteCodeFilter) -> str:
    """`html`, `data` or ""."""
    said = metadata_text(document, config.language_key).lower()
    if said:
        return _KINDS.get(said, "")
    path = metadata_text(document, config.path_key) or document.url.split("?")[0] or document.id
    return _KINDS.get(path.rpartition(".")[2].lower(), "")


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "body":
            self._hidden = []  # a <head> without its end, which HTML allows

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _visible(html: str) -> str:
    """The text that a reader of an HTML page sees, with its blanks joined."""
    parser = _Visible()
    parser.feed(html)
    parser.close()
    return " ".join(" ".join(parser.parts).split())
