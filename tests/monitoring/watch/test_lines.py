"""The lines that the page gets: what is new, what is void, and never more than a page can show."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lehr.monitoring.watch import lines as module
from lehr.monitoring.watch.lines import MOST_POINTS, Key, Lines

A = Key(0, 0, 0, (("run", "x"), ("stage", "stage1")))
B = Key(0, 1, 0, (("run", "x"), ("stage", "ramp")))


def values(sent: dict[str, Any]) -> list[float]:
    return [point[2] for point in sent["points"]]


def test_only_what_is_new_is_sent() -> None:
    lines = Lines()
    for at in range(3):
        lines.add(A, "stage1", at, at, 10.0 + at)
    number, (first,) = lines.since(0)
    assert first["anew"] and values(first) == [10, 11, 12] and first["labels"] == {"run": "x", "stage": "stage1"}
    assert lines.since(number) == (number, [])
    lines.add(A, "stage1", 3, 3, 13.0)
    lines.add(B, "ramp", 3, None, 1.0)
    _, (more, other) = lines.since(number)
    assert not more["anew"] and more["points"] == [[3, 3, 13.0]]
    assert other["anew"] and other["points"] == [[3, None, 1.0]]


def test_a_client_that_adds_up_what_it_gets_has_the_line_whenever_it_asks() -> None:
    lines, known, number = Lines(), list[Any](), 0
    for at in range(3 * MOST_POINTS):
        lines.add(A, "", at, at, float(at % 7))
        if at % 97 == 0:
            number, news = lines.since(number)
            for line in news:
                known = line["points"] if line["anew"] else known + line["points"]
            assert known == lines.since(0)[1][0]["points"]


def test_a_line_stays_bounded_and_keeps_its_extremes() -> None:
    lines = Lines()
    for at in range(20_000):
        lines.add(A, "", float(at), None, 1000.0 if at == 1234 else float(at % 10))
    points = lines.since(0)[1][0]["points"]
    assert MOST_POINTS / 2 <= len(points) <= MOST_POINTS
    assert points[-1][0] == 19_999 and max(p[4] for p in points if len(p) > 3) == 1000
    assert min(p[3] for p in points if len(p) > 3) == 0
    places = [p[0] for p in points]
    assert places == sorted(places)


def test_what_is_not_finite_leaves_a_gap_and_too_many_lines_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    for value in (math.nan, math.inf, -math.inf):
        lines.add(A, "", 0, None, value)
    assert lines.since(0)[1] == []
    monkeypatch.setattr(module, "MOST_LINES", 10)
    for number in range(30):
        lines.add(Key(0, 0, 0, (("metric", str(number)),)), "", 0, None, 1.0)
    assert len(lines.since(0)[1]) == 10


def test_lines_of_a_log_that_began_anew_are_taken_back() -> None:
    lines = Lines()
    for key in (A, B):
        lines.add(key, "", 0, 1, 5.0)
    number, _ = lines.since(0)
    lines.remove(0, {(0, 0), (0, 1)}, "stage1")
    number, (gone,) = lines.since(number)
    assert gone["anew"] and gone["points"] == [] and gone["labels"]["stage"] == "stage1"
    lines.add(A, "again", 1, 1, 6.0)
    _, (again,) = lines.since(number)
    assert again["anew"] and values(again) == [6.0]
    lines.remove(1)
    assert len(lines.since(0)[1]) == 2
    lines.remove(0)
    assert lines.since(0)[1] == []
