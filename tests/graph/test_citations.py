"""Every section, table, figure and equation that a file cites is one that the report which it names has.

Whether the place says what is cited for is a reader's to judge; that there is such a place is held here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.graph.source import committed_files, shown

SECTIONS = {
    "Granite 3.0": "1 2 2.1 2.2 3 3.1 3.2 4 4.1 4.1.1 4.1.2 4.2 4.3 5 5.1 5.2 5.2.1 5.2.2 5.3 5.3.1 5.3.2 5.3.3 5.4 6 7 7.1 "
    "7.2 7.2.1 7.2.2 7.2.3 7.2.4 7.2.5 8 9 A B B.1 B.1.1 B.1.2 B.1.3 B.1.4 B.1.5 B.1.6 B.1.7 B.1.8 B.2 B.2.1 B.2.2 B.2.3 B.2.4 "
    "B.2.5 B.2.6 B.3 B.3.1 B.3.2",
    "OLMo 2": "1 2 2.1 2.2 2.3 2.4 2.4.1 2.4.2 2.5 3 3.1 3.2 3.3 3.3.1 3.3.2 3.3.3 3.4 3.4.1 3.4.2 4 4.1 4.2 4.3 4.4 4.4.1 "
    "4.4.2 4.5 5 6 6.1 6.1.1 6.1.2 6.2 6.3 6.4 6.5 A A.1 A.2 B B.1 C C.1 C.2 C.3 D E",
    "OLMo 1": "1 2 2.1 2.2 2.3 2.4 3 3.1 3.2 3.3 3.4 4 4.1 4.2 4.3 5 6 A B C D E",
    "Stable LM 2": "1 2 2.1 2.2 2.3 2.4 2.5 3 3.1 3.2 3.3 4 4.1 4.2 4.3 5 5.1 5.2 6 7 7.1 7.2 8 A B C D E",
}
LAST = {  # the highest numbers
    "Granite 3.0": {"table": 17, "figure": 7, "equation": 10},
    "OLMo 2": {"table": 27, "figure": 25, "equation": 2},
    "OLMo 1": {"table": 8, "figure": 4, "equation": 0},
    "Stable LM 2": {"table": 11, "figure": 6, "equation": 3},
}
REPORT = re.compile("|".join(map(re.escape, SECTIONS)))
_PLACE = r"(?:[A-E]|\d{1,2})(?:\.\d)*\b"
CITATION = re.compile(rf"\b([Ss]ection|[Aa]ppendix|[Tt]able|[Ff]igure|[Ee]quation)s? ({_PLACE}(?:(?:,| and|, and) {_PLACE})*)")
OTHERS = re.compile(r'(?:19|20)\d\d,?(?: "[^"]*",)? $')  # of another work: (Chowdhery et al. 2022, section 5.1)


def texts(path: Path) -> Iterator[str]:
    """The pieces of a file within which a citation may rely on a report named before it: a line of a recipe, with the one that
    the file names first ahead of it; elsewhere a sentence."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        first = REPORT.search(text)
        for line in text.splitlines():
            yield f"{first[0] if first else ''} {line}"
        return
    joined = re.sub(r"(?<=\S)\n[ #]*(?=\S)", " ", text)  # a sentence goes on over the end of a line
    yield from re.split(r"(?<=[.!?])[\"')]* (?=[A-Z`(])|\n", joined)


def wrong(path: Path) -> Iterator[str]:
    """What a file cites that its report has not, or of no report."""
    for piece in texts(path):
        for found in CITATION.finditer(piece):
            if OTHERS.search(piece[: found.start()]):
                continue
            named = REPORT.findall(piece[: found.start()])
            kind, places = found[1].lower(), re.findall(_PLACE, found[2])
            if not named:
                yield f"{found[0]!r} of no report"
                continue
            for place in places:
                if kind in ("section", "appendix"):
                    there = place in SECTIONS[named[-1]].split() and place[0].isalpha() == (kind == "appendix")
                else:
                    there = place.isdigit() and int(place) <= LAST[named[-1]][kind]
                if not there:
                    yield f"{named[-1]} has no {kind} {place}"


def cited() -> list[Path]:
    """The files that cite: all but the history, the facts, which cite by signs of their own, and this test."""
    left_out = {"CHANGELOG.md", "tests/config/facts.yaml", "tests/graph/test_citations.py"}
    return [p for p in committed_files() if p.suffix in (".py", ".yaml", ".md") and shown(p) not in left_out]


def test_every_citation_is_of_a_place_that_its_report_has() -> None:
    found = [f"{shown(path)}: {what}" for path in cited() for what in wrong(path)]
    assert not found, "\n".join(found)
    assert sum(len(CITATION.findall(path.read_text(encoding="utf-8"))) for path in cited()) > 500


def test_a_wrong_citation_is_found(tmp_path: Path) -> None:
    def of(name: str, text: str) -> list[str]:
        path = tmp_path / name
        path.write_text(text)
        return list(wrong(path))

    assert of("a.py", "# RLVR (OLMo 2\n# section 5.3), and GAE") == ["OLMo 2 has no section 5.3"]
    assert of("a.py", "# as OLMo 2 does. See section 5") == ["'section 5' of no report"]
    assert of("a.py", "# (Granite 3.0 sections 4.1 and 4.4, Table 18)") == [
        "Granite 3.0 has no section 4.4", "Granite 3.0 has no table 18"
    ]  # fmt: skip
    assert of("a.yaml", "# OLMo 1 (arXiv)\nlr: 1  # Table 1\neps: 2  # OLMo 2 Table 27\nz: 3  # Table 9\n") == [
        "OLMo 1 has no table 9"
    ]
    others = 'PaLM (Chowdhery et al. 2022, section 5.1; Miller 2024, "Bars", section 2) and OLMo 2 (appendix 3)'
    assert of("a.md", others) == ["OLMo 2 has no appendix 3"]
