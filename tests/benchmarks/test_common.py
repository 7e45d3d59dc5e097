"""Benchmarks: broken peers are named and left out, JSON comes alone, a section of the page is replaced and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.common import LEHR, Record, in_turns, installed
from benchmarks.cost_figure import Panel, Point, drawing


def _fails() -> None:
    raise RuntimeError("its wheel is broken")


@pytest.mark.long
def test_a_broken_peer_is_named_and_the_others_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = in_turns({LEHR: lambda: None, "broken": _fails, "sound": lambda: None}, turns=1, warm=0)
    assert set(found) == {LEHR, "sound"}
    assert set(installed({"absent": _fails, "there": lambda: 1})) == {"there"}
    said = capsys.readouterr().err
    assert said.count("left out: broken") == 1 and "its wheel is broken" in said and "left out: absent" in said


def test_lehr_itself_may_not_fail() -> None:
    with pytest.raises(RuntimeError):
        in_turns({LEHR: _fails, "sound": lambda: None}, turns=1)


def test_json_comes_alone_and_only_its_own_section_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Top\n\n<!-- benchmarks.a -->\nstale\n<!-- end of benchmarks.a -->\n\nbetween\n", encoding="utf-8")
    monkeypatch.setattr(common, "PAGE", page)
    # Not there: their pandas would be flytekit's in later tests of this process.
    monkeypatch.setattr(common, "PEERS", str(tmp_path / "none"))
    monkeypatch.setattr("sys.argv", ["benchmarks.a", "--json"])

    def run() -> list[Record]:
        """Two records."""
        print("a peer that talks")
        worse = common.compared("a", "worse", 2.0, 4.0, "peer", "tokens/s")
        return [common.compared("a", "case", 2.0, 6.0, "peer", "s", less_is_better=True), worse]

    assert common.main("a", run, lambda: "\nmore\n") == 0
    assert json.loads(capsys.readouterr().out)[0]["ratio"] == 3.0
    text = page.read_text(encoding="utf-8")
    assert "stale" not in text and "**3** | 1: met" in text and "\nmore\n<!-- end" in text and "\nbetween\n" in text
    assert "| a | 1 of 2 | worse (peer: 0.5, target 1: not met) |" in text


def test_the_drawing_shows_every_measured_point() -> None:
    points = [Point(1, 10.0, 1e9), Point(2, 20.0, 2e9), Point(4, 41.0, 4e9)]
    flat = [Point(10, 1.0, 0), Point(100, 1.1, 0)]
    assert drawing([Panel("step", "batch", points), Panel("loader", "instances", flat)]).count("<circle") == 5
