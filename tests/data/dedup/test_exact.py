"""Copies by text and by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.config.deduplication import Deduplication
from lehr.data.dedup import Corpora
from lehr.data.dedup.exact import normalised_url, text_key
from tests.data.dedup.given import NumPyJoins, duplicates, signed


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.Example.org/A/b/", "example.org/A/b"),
        ("http://example.org:80/A/b#part", "example.org/A/b"),
        ("example.org/A/b", "example.org/A/b"),
        ("https://user:secret@example.org:8443/", "example.org:8443"),
        ("https://example.org/?b=2&utm_source=x&a=1&fbclid=y&gclid=z&mc_cid=1&_ga=3", "example.org?a=1&b=2"),
        ("https://example.org/?id=7&cid=8&grid=1", "example.org?cid=8&grid=1&id=7"),  # parameters that tell pages apart
        ("https://example.org/#!/page", "example.org#!/page"),
        ("https://example.org/%C3%A9?q=%20a", "example.org/%C3%A9?q=+a"),
        ("  ", ""),
        ("http://", ""),
        ("http://[broken/", "http://[broken/"),
        ("http://example.org:port/", "http://example.org:port/"),
    ],
)
def test_urls_of_one_page_are_one(url: str, expected: str) -> None:
    assert normalised_url(url) == expected


def test_the_first_stays_by_url_then_by_text(tmp_path: Path) -> None:
    texts = ["One text", "another", "ONE  text\n", "third", "fourth", "third"]
    urls = ["http://a.org", "http://b.org", "", "https://www.b.org/", "http://www.c.org", "http://c.org"]
    both = Deduplication(url=True)
    for engine in (None, NumPyJoins()):
        found = duplicates(Corpora.open(both, signed(texts, both, tmp_path, urls)), texts, tmp_path, engine)
        # 5 has the URL of 4. Its text is that of 3, which is gone already, by the URL of 1.
        assert found[["number", "kept", "reason"]].tolist() == [(2, 0, 1), (3, 1, 0), (5, 4, 0)]
    exact = Deduplication()
    found = duplicates(Corpora.open(exact, signed(texts, exact, tmp_path, urls)), texts, tmp_path)
    assert found[["number", "kept"]].tolist() == [(2, 0), (5, 3)]
    nothing = Deduplication(exact=False)
    assert len(duplicates(Corpora.open(nothing, signed(texts, nothing, tmp_path)), texts, tmp_path)) == 0


def test_a_key_knows_neither_case_nor_white_space_but_everything_else() -> None:
    assert text_key("A  b\n c ") == text_key("a B c") != text_key("a b. c")
    assert text_key("lone \ud800 surrogate") != text_key("lone surrogate")
