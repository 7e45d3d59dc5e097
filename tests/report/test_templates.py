"""Templates lay out, Python counts: no markup but a drawing's is made in Python, and no text is called markup."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from lehr.analysis.initialisation import Growth
from lehr.report import rendering, svg
from lehr.report.diagnosis import diagnosis_page
from lehr.report.rendering import rendered
from tests.graph.source import ROOT, committed_files, imports, shown, sources

REPORT = ROOT / "lehr" / "report"
PYTHON = [path for path in committed_files() if path.parent == REPORT and path.suffix == ".py"]
TEMPLATES = sorted((REPORT / "templates").glob("*"))
# <title> and <style> are SVG's too.
HTML = re.compile(
    r"</?(html|head|body|meta|main|nav|section|header|div|p|span|h\d|table|t[rdh]|ul|li|pre|code|strong|br|small|i|em)\b[^<]*>"
)


def test_no_html_is_made_in_python() -> None:
    wrong = [
        f"{shown(path, node.lineno)}: {found[0]}"
        for path in PYTHON
        for node in ast.walk(sources()[path])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (found := HTML.search(node.value))
    ]
    assert len(PYTHON) > 15 and not wrong, "\n".join(wrong)


def test_nothing_but_a_drawing_is_called_markup() -> None:
    calls = [
        path.name
        for path in PYTHON
        for node in ast.walk(sources()[path])
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Markup") and node.args
    ]
    assert calls == ["svg.py"]
    for template in TEMPLATES:  # `~` escapes a text that stands beside markup before it is made visible
        assert not re.search(r"\|\s*safe\b|autoescape|\s~\s", template.read_text()), template.name


def test_every_template_is_one_that_something_asks_for() -> None:
    asked = "".join(path.read_text() for path in (*PYTHON, *TEMPLATES))
    assert len(TEMPLATES) > 10 and [t.name for t in TEMPLATES if f'"{t.name}"' not in asked] == []


def test_a_text_is_shown_and_a_drawing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.html").write_text("{{ text }}{{ [text, text]|join(' ') }}{{ drawing }}{{ none }}")
    monkeypatch.setattr(rendering._environment().loader, "searchpath", [str(tmp_path)])
    drawing = svg.figure(1, 2, [svg.text(0, 0, "<b>\x1b")], "<i>")
    assert isinstance(drawing, Markup) and "<b>" not in drawing and "\x1b" not in drawing
    once = "&lt;b title=&#34;&#39;&#34;&gt;\u241b"
    assert rendered("x.html", text='<b title="\'">\x1b', drawing=drawing) == f"{once}{once} {once}{drawing}None"
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        rendered("x.html", drawing=drawing)


def test_the_page_of_a_diagnosis_shows_what_it_is_given() -> None:
    widths = (64, 128)
    found = [Growth(name, w, 0.1, -0.2, 3.0, 2.0, 0.3, 0.4) for name in ("OLMo 2", "OLMo 2, <other>") for w in widths]
    page = diagnosis_page(found, "2 layers <b>")
    assert page.startswith("<!doctype html>") and "default-src 'none'" in page and "2 layers &lt;b&gt;" in page
    assert page.count("<svg") == 4 and page.count("OLMo 2, &lt;other&gt;") == 3  # the legend, a row for each width
    assert '<tr><th scope="row">OLMo 2</th><td class="num">64</td><td class="num">+0.1000</td>' in page


def test_jinja_is_met_in_one_place() -> None:
    assert [path.name for path in PYTHON for name, _ in imports(path) if name.startswith("jinja2.")] == ["rendering.py"] * 3
