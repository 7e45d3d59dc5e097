"""Pages name files that are there."""

from __future__ import annotations

import re

import pytest

from tests.graph.source import ROOT

PLACEHOLDERS = re.compile(r"NAME|ROOM|RUN")


@pytest.mark.parametrize(
    "page", ["README.md", "docs/architecture.md", "docs/decisions.md", "docs/robustness.md", "docs/fleet.md"]
)
def test_the_files_that_a_page_names_exist(page: str) -> None:
    """In backticks, with a folder and `.py`, or a folder of ours with a slash behind it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:lehr|cli|infra|monitoring|tasks|workflows|tests|recipes)/[\w./-]*)", text))
    wrong = [name for name in sorted(named) if not PLACEHOLDERS.search(name) and not (ROOT / name).exists()]
    assert not wrong, wrong
