"""The main text of web pages."""

from __future__ import annotations

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from lehr.data.damage import Damaged
from lehr.data.readers.languages import language_of

LARGEST_PAGE = 8 << 20  # bytes; Common Crawl cuts pages at 1 MiB, since 2025 at 5 MiB. A parsed page takes ten times as much
# Parsing takes time that grows with the square of a tag's attributes, extraction with that of how deep elements are nested: of
# 10,000 either takes a second or more, of 100,000 minutes (measured). Browsers stop at a depth of some hundred.
_DEEPEST, _MOST_ATTRIBUTES = 2000, 2000
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{8000,}")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that hold none, or end by themselves.
_FLAT = frozenset(
    """
    area base br col embed hr img input link meta source track wbr p li dt dd tr td th option thead tbody tfoot colgroup
    """.split()  # noqa: SIM905 - a list of words is read, not its quotes
)


def main_text(page: str, where: str) -> tuple[str, str]:
    """The text of a page without menus and the like, and the language that the page says it has ("": none). Raises Damaged for
    pages that would take minutes."""
    _refuse_slow(page, where)
    try:
        tree = HTMLTree.parse(page)
        root = tree.document.query_selector("html") if tree.document else None
        said = root.getattr("lang") if root else None
        return extract_plain_text(tree, main_content=True), language_of(said)
    except ValueError as error:
        raise Damaged(
            "damaged record", f"this page cannot be parsed ({error})", where=where, remedy="set damaged: skip"
        ) from None


def _refuse_slow(page: str, where: str) -> None:
    """Raises Damaged for tags with thousands of attributes, and elements in thousands of others."""
    wrong = ""
    if any(len(tag[0].split()) > _MOST_ATTRIBUTES for tag in _LONG_TAG.finditer(page)):
        wrong = f"a page with more than {_MOST_ATTRIBUTES:,} attributes in a tag"
    elif page.count("<") > _DEEPEST and _depth(page) > _DEEPEST:
        wrong = f"a page with more than {_DEEPEST:,} elements in each other"
    if wrong:
        raise Damaged("decompression bomb", wrong, where=where, remedy="set damaged: skip")


def _depth(page: str) -> int:
    """How deep elements are in each other, about: whoever leaves out an end tag that is not optional counts as nesting."""
    depth = deepest = 0
    for tag in _TAG.finditer(page):
        if tag[2].lower() not in _FLAT:
            depth = max(0, depth + (-1 if tag[1] else 1))
            deepest = max(deepest, depth)
    return deepest
