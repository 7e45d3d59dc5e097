"""The pages in a real browser, narrow and wide, light and dark: nothing is cut off without a way to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.report import render
from tests.monitoring.watch.chromium import Browser, browser, found
from tests.report.example import example

pytestmark = pytest.mark.skipif(found() is None, reason="there is no Chromium on the path")
CUT = """[...document.querySelectorAll('.lehr-report *')].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1
  && !e.closest('svg') && !e.matches('.scroll, pre, .answer p')).map((e) => e.tagName + '.' + e.className)"""
OUTSIDE = """[...document.querySelectorAll('nav a')].filter((a) => a.getBoundingClientRect().right > innerWidth)
  .map((a) => a.textContent)"""
SHADOWS = """[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth
  && !getComputedStyle(e).backgroundImage.includes('gradient')).length"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 420])
def test_every_section_of_the_contents_is_in_sight_and_wide_tables_say_that_they_go_on(
    width: int, dark: bool, chromium: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(example()), encoding="utf-8")
    chromium.look(width, dark)
    chromium.call("Page.navigate", url=page.as_uri())
    chromium.wait("document.readyState === 'complete' && document.querySelectorAll('nav a').length > 10")
    chromium.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert chromium.evaluate(OUTSIDE) == [] and chromium.evaluate(CUT) == []
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth") and chromium.evaluate(SHADOWS) == 0
    assert not chromium.complaints
