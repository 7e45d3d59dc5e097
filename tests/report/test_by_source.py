"""Texts by source in the report and on a terminal: each source, its domains and means, whatever they are called."""

from __future__ import annotations

import io
import re

import pytest

from lehr.cli.source_table import source_tables
from lehr.evals.flagged import Without
from lehr.evals.task import Mean, Part
from lehr.monitoring.screen import Screen
from lehr.report import ReportData, ScoreRecord, StageReport, render
from lehr.report.by_source import PANELS
from lehr.report.verdicts import changes

AWKWARD = "<b>web</b>/a\n[red]\x1b[31m"


def _parts(shift: float, sources: tuple[str, ...] = ("books", AWKWARD), domains: int = 2) -> list[Part]:
    found = []
    for number, source in enumerate(sources):
        mean = Mean(value=1.5 + shift, stderr=0.02) if domains else None
        value = 1.0 + shift + number / 100
        found.append(Part(source=source, domain="", value=value, stderr=0.01, n=8, clusters=8, domains=domains, mean=mean))
        for domain in range(domains):
            one = Part(source=source, domain=f"{domain}<i>", value=2 + shift, stderr=None, n=1, clusters=1)
            left = Without(value=9.25, stderr=None, n=3, clusters=3)
            found.append(one.model_copy(update={"kept": 1, "without": left if domain else None}) if number == 0 else one)
    return found


def _records(stage: str, shift: float, parts: list[Part]) -> list[ScoreRecord]:
    base = {"stage": stage, "task": "mine", "split": "held_out", "n": 16, "stderr": 0.001}
    return [
        ScoreRecord(**base, metric="bits_per_byte", value=1.1 + shift, parts=parts),
        ScoreRecord(**base, metric="bits_per_byte_over_sources", value=1.2 + shift),
        ScoreRecord(**base, metric="perplexity", value=10 + shift, parts=parts),
        ScoreRecord(**base, metric="perplexity_over_sources", value=12 + shift),
    ]


def _data(*shifts: float, **more: object) -> ReportData:
    stages = [StageReport(name=f"s{n}", kind="checkpoint", digest=f"d{n}", parents=[f"d{n - 1}"]) for n, _ in enumerate(shifts)]
    scores = [r for n, shift in enumerate(shifts) for r in _records(f"s{n}", shift, _parts(shift, **more))]  # type: ignore[arg-type]
    return ReportData(run="x", stages=stages, scores=scores)


def _section(data: ReportData) -> str:
    page = render(data)
    assert AWKWARD not in page and "<b>web" not in page and "<i>" not in page and "\x1b" not in page
    return " ".join(page.partition("<h2>Texts by source</h2>")[2].partition("</section>")[0].replace("\xa0", " ").split())


def test_every_stage_stands_beside_the_others_for_each_source() -> None:
    shown = _section(_data(0.0, 0.25))
    assert "2 sources, 4 domains" in shown
    assert "&lt;b&gt;web&lt;/b&gt;/a [red]" in shown and "books, mean over 2 domains" in shown and "1.750 ± 0.020" in shown
    assert shown.count('class="plot"') == 2 and shown.count("<title>s1: 1.750 ± 0.020</title>") == 2, "a chart has the means"
    rows = re.findall(r'<th scope="row">((?:mean|all)[^<]+)</th> ?<td class="num">[^<]*</td> ?<td class="num">([0-9.]+)', shown)
    assert rows[:2] == [("mean, each source counting once", "1.200"), ("all texts together", "1.100")]
    assert "perplexity per token" in shown and "0&lt;i&gt;" in shown
    assert "books, 0&lt;i&gt;" in shown and "none is left" in shown and "9.250" in shown, "without the contaminated ones"


def test_of_one_model_a_chart_has_all_sources_and_of_many_sources_some_are_in_the_table_alone() -> None:
    assert _section(_data(0.0)).count('class="plot"') == 1
    many = tuple(f"source {n:03}" for n in range(PANELS + 6))
    shown = _section(_data(0.0, 0.1, sources=many, domains=0))
    assert shown.count('class="plot"') == PANELS and "6 more sources are in the table alone" in shown
    assert all(f'<th scope="row">{name}</th>' in shown for name in many) and "By domain" not in shown


def test_a_report_without_sources_has_no_such_section_and_verdicts_count_texts_once() -> None:
    data = _data(0.0, 0.25)
    assert [r.column.metric for r in changes(data)] == ["bits_per_byte"]
    plain = ReportData(run="x", stages=data.stages, scores=[r.model_copy(update={"parts": []}) for r in data.scores])
    assert "Texts by source" not in render(plain)
    dumped = [record.model_dump() for record in (*data.scores, *plain.scores)]
    assert ["parts" in row for row in dumped] == [True, False, True, False] * 2 + [False] * 8


@pytest.mark.parametrize("domains", [2, 40])
def test_a_terminal_shows_sources_and_as_many_domains_as_can_be_read(domains: int) -> None:
    out = io.StringIO()
    for table in source_tables([r.model_dump() for r in _records("s", 0.0, _parts(0.0, domains=domains))]):
        Screen(file=out, width=400).print(table)
    shown = out.getvalue()
    assert "\x1b" not in shown and "<b>web</b>/a [red]" in shown and "mine, held_out, by source" in shown
    assert ("  1<i>" in shown) == (domains == 2) and ("The 80 domains are in scores.json." in shown) == (domains == 40)
    assert ("none is left" in shown) == (domains == 2) and "1.500 ± 0.020" in shown
