"""Formats, scales, layout and score tables, by numbers that a reader can check."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.report import format as fmt
from lehr.report import render
from lehr.report.charts import Dot, dot_plot
from lehr.report.curves import Axes, Series, bucketed, curve_chart
from lehr.report.data import ReportData, StageReport
from lehr.report.lineage import draw, layers_of, needed_edges
from lehr.report.scores import ScoreRecord, score_matrix, soup_rows
from lehr.report.svg import Scale, tick_labels
from lehr.runtime.metrics import metric


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (fmt.count(1234), "1,234"),
        (fmt.count(1_638_400), "1.64M"),
        (fmt.count(3_896e9), "3.9T"),
        (fmt.count(99_999), "99,999"),
        (fmt.duration(0.04), "0.0 s"),
        (fmt.duration(59.7), "1 min 00 s"),
        (fmt.duration(7_509), "2 h 05 min"),
        (fmt.duration(math.nan), "–"),
        (fmt.clock(3_725), "1:02:05"),
        (fmt.energy(252), "252 J"),
        (fmt.energy(6_295.8), "1.75 Wh"),
        (fmt.energy(252, like=6_295.8), "0.0700 Wh"),
        (fmt.energy(131e6 * 3600), "131 MWh"),
        (fmt.mass(6.73e-4), "673 mg"),
        (fmt.number(3e-5), "3e-5"),
        (fmt.number(-0.5), "-0.500"),
        (fmt.esc("<a href='x'>\x00"), "&lt;a href=&#x27;x&#x27;&gt;\u2400"),
    ],
)
def test_formats(got: str, want: str) -> None:
    assert got == want


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_lie_inside_evenly_and_are_told_apart(low: float, span: float, wanted: int) -> None:
    ticks = Scale(low, low + span, 0, 100).ticks(wanted)
    assert 1 <= len(ticks) <= wanted + 2
    assert len(ticks) > 1 or span < 1e-6 * abs(low)
    assert all(low - span * 1e-6 <= t <= low + span * (1 + 1e-6) for t in ticks)
    if len(ticks) > 2 and span > 1e-3 * abs(low):
        steps = [b - a for a, b in itertools.pairwise(ticks)]
        assert max(steps) - min(steps) < 1e-6 * max(steps) + 1e-9
    if span > 1e-3 and span > 1e-4 * abs(low):
        assert len(set(tick_labels(ticks))) == len(ticks)


def test_tick_labels_share_their_decimals() -> None:
    assert tick_labels([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert tick_labels([0.0, 5e-5, 1e-4]) == ["0", "5e-5", "1e-4"]
    assert tick_labels([5000, 10000]) == ["5,000", "10,000"]


def test_buckets_keep_the_mean_and_the_extremes() -> None:
    points = [(float(i), float((-1) ** i * i)) for i in range(1000)]
    buckets, size = bucketed(points, 140)
    assert size == 8 and len(buckets) == 125
    assert max(b.high for b in buckets) == 998 and min(b.low for b in buckets) == -999
    assert sum(b.mean for b in buckets) / 125 == pytest.approx(sum(y for _, y in points) / 1000)


def _section(anchor: str, data: ReportData) -> str:
    return render(data).partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


def _texts(chart: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def test_axes_of_shares_end_at_100_and_have_several_ticks() -> None:
    points = [(float(i), 100.0 - (i % 3)) for i in range(40)]
    chart = curve_chart([Series("dpo", "red", points)], Axes("x", "step", percent=True))
    shown = [float(t) for t in _texts(chart)[:12] if re.fullmatch(r"\d+\.?\d*", t)]
    assert max(shown) <= 100 and sum(t > 90 for t in shown) >= 2
    dots = dot_plot([Dot("a", 0.97, 0.05, "97"), Dot("b", 1.0, 0.0, "100")], label="x", percent=True)
    assert "110" not in _texts(dots) and "105" not in _texts(dots)
    assert len(Scale(0.92, 1.08, 0, 100).ticks(3)) > 1  # one round number would be alone there
    assert len(Scale(2.1, 4.9, 0, 100, log=True).ticks()) > 1


def test_values_are_told_where_the_pointer_is() -> None:
    chart = curve_chart(
        [Series("stage1", "red", [(float(i), 3.0 - i / 100) for i in range(100)]), Series("<ramp>", "blue", [(99.0, 2.0)])],
        Axes("loss", "tokens seen"),
    )
    titles = re.findall(r'class="near"><title>([^<]*)</title>', chart)
    assert len(titles) == 48 and titles[-1] == "98\nstage1: 2.020\n&lt;ramp&gt;: 2.000"
    assert "ramp" not in "".join(titles[:-1])
    assert "<title>a: 97 ± 5</title>" in dot_plot([Dot("a", 0.97, 0.05, "97 ± 5")], label="x")


def test_bands_that_would_hide_each_other_are_left_out_and_noise_is_smoothed() -> None:
    many = [(float(i), float(i % 2)) for i in range(300)]
    assert 'class="band"' in curve_chart([Series("a", "red", many)], Axes("x", "x"))
    assert 'class="band"' not in curve_chart([Series("a", "red", many, band=False)], Axes("x", "x"))
    noisy, plain = [(float(i), float(i % 2)) for i in range(60)], [(float(i), float(i)) for i in range(60)]
    assert curve_chart([Series("a", "red", noisy)], Axes("x", "x")).count('class="faint"') == 1
    assert 'class="faint"' not in curve_chart([Series("a", "red", plain)], Axes("x", "x"))
    assert curve_chart([Series("a", "red", [])], Axes("x", "x")) == ""


@pytest.mark.parametrize(
    ("value", "stderr", "n", "shown"),
    [
        (0.5, 0.05, 100, "± 5.0"),
        (1.0, 0.0, 199, "− 0.5"),  # Wilson: 1 / (n + 1), to the side that is left
        (0.0, 0.0, 199, "+ 0.5"),
        (1.0, 0.0, 1, ""),
        (0.5, None, 9, ""),
        (0.5, math.nan, 9, ""),
    ],
)
def test_no_score_is_certain(value: float, stderr: float | None, n: int, shown: str) -> None:
    assert fmt.error(value, stderr, n, metric("exact_match")) == shown
    assert fmt.error(1.0, 0.0, 60, metric("bits_per_byte_xz")) == ""


def test_speed_and_utilisation_are_drawn() -> None:
    points = [{"step": s, "tokens": 100.0 * s, "loss": 2.0, "seconds": 0.5} for s in (1.0, 2.0, 3.0)]
    points.insert(2, {"step": 2, "tokens": 200.0, "dev_bits_per_byte": 2.0})  # an evaluation on the way took no step
    stage = StageReport(name="stage1", phase="pretraining", curves=points, tokens=300, flops=300 * 6e6)
    assert stage.speeds() == [(100.0, 200.0), (200.0, 200.0), (300.0, 200.0)]
    page = _section("learning", ReportData(run="r", stages=[stage], peak_flops=4.8e9))
    assert "Speed, tokens per second" in page
    share = page.partition("Model FLOPs utilisation, %")[2]  # 200 tokens/s x 6 MFLOP of 4.8 GFLOP/s
    assert "stage1: 25.00" in share and "of 0.00480 TFLOP/s" in share
    assert "utilisation" not in _section("learning", ReportData(run="r", stages=[stage]))


def test_scores_on_the_way_are_drawn_by_source() -> None:
    def points(first: int) -> list[dict[str, float | None]]:
        keys = ("dev_bits_per_byte", "dev_bits_per_byte@bible", "dev_bits_per_byte@<b>")
        return [{"step": s, "tokens": 10.0 * s, **dict.fromkeys(keys, 3.0 - (first + s) / 10)} for s in (1.0, 2.0)]

    names = (("stage1", [], 0), ("a", ["stage1"], 2), ("b", ["stage1"], 2))
    stages = [StageReport(name=n, phase="pretraining", parents=p, curves=points(first)) for n, p, first in names]
    page = _section("learning", ReportData(run="r", stages=stages))
    panel = page.partition(", by source")[2].partition("</p>")[0]
    assert "along stage1, a<" in panel and panel.count("<path") == 2
    assert re.findall(r"</i>([^<]+)", panel) == ["&lt;b&gt;", "bible"] and "bible: 2.600" in panel
    assert page.count("by source") == 1 and "by source" not in _section("learning", ReportData(run="r", stages=stages[:0]))


def test_mixes_that_are_alike_are_shown_once() -> None:
    page = _section("data", ReportData(run="r", mixes={"stage1": "a", "anneal-1": "b", "anneal-2": "b"}))
    assert re.findall(r"<h3>([^<]+)</h3><pre>", page) == ["stage1", "anneal-1, anneal-2"]


def test_layers_put_every_stage_below_its_parents_and_implied_lines_away() -> None:
    parents = {"shards": [], "stage1": ["shards"], "a": ["stage1", "shards"], "b": ["stage1", "shards"], "soup": ["a", "b"]}
    assert layers_of(parents) == {"shards": 0, "stage1": 1, "a": 2, "b": 2, "soup": 3}
    assert needed_edges(parents) == {("shards", "stage1"), ("stage1", "a"), ("stage1", "b"), ("a", "soup"), ("b", "soup")}
    drawing = draw(parents, {}, {})
    assert drawing.count("<rect") == 5 and drawing.count('class="thread"') == 5


def test_a_damaged_lineage_that_turns_in_a_circle_is_still_drawn() -> None:
    assert draw({"a": ["b"], "b": ["a"], "c": ["c"]}, {}, {}).count("<rect") == 3


def record(stage: str, value: float, metric: str = "accuracy", task: str = "t") -> dict[str, object]:
    return {
        "stage": stage,
        "task": task,
        "split": "held_out",
        "metric": metric,
        "value": value,
        "stderr": 0.1,
        "n": 10,
        "seed": 1,
    }


def test_stages_stand_in_the_order_of_the_graph_and_ties_share_the_prize() -> None:
    records = [record(s, v) for s, v in (("rlvr", 0.5), ("x", 0.2), ("anneal-9", 0.9), ("stage1", 0.1), ("anneal-10", 0.9))]
    assert score_matrix(records).stages == ["rlvr", "x", "anneal-9", "stage1", "anneal-10"]  # as they first appear
    graph = [StageReport(name=s, parents=p) for s, p in (("ppo", ["stage1"]), ("stage1", []), ("anneal-10", ["ppo"]))]
    table = ReportData(run="r", stages=graph, scores=[ScoreRecord.model_validate(r) for r in records]).table()
    assert table.stages == ["stage1", "anneal-10", "rlvr", "x", "anneal-9"]  # those without a stage last
    assert table.best(table.columns[0]) == {"anneal-9", "anneal-10"}
    assert score_matrix([record("stage1", 0.0), record("soup", 0.0)]).best(table.columns[0]) == set()


def test_soup_is_compared_in_the_metrics_own_direction() -> None:
    values = {"anneal-1": 2.0, "anneal-2": 3.0, "soup": 2.25}
    ingredients = ["anneal-1", "anneal-2"]
    row = soup_rows(score_matrix([record(s, v, "bits_per_byte") for s, v in values.items()]), "soup", ingredients)[0]
    assert (row.mean, row.best.stage, row.gain_over_mean, row.gain_over_best) == (2.5, "anneal-1", 0.25, -0.25)
    row = soup_rows(score_matrix([record(s, v, "accuracy") for s, v in values.items()]), "soup", ingredients)[0]
    assert (row.best.stage, row.gain_over_mean, row.gain_over_best) == ("anneal-2", -0.25, -0.75)
    table = score_matrix([record("soup", 1.0), record("anneal-1", 1.0)])
    assert soup_rows(table, "soup", ingredients) == soup_rows(table, "soup", []) == []


def test_steadiness_of_every_stage_that_recorded_it() -> None:
    said = {"steps": 1200, "skipped_steps": 3, "spike_score_loss_percent": 0.25, "spike_score_grad_norm_percent": 1.5}
    plain = StageReport(name="stage1", phase="pretraining", curves=[{"step": 1, "loss": 2.0}])
    stage = plain.model_copy(update={"stability": {**said, "left_out": [[8, 17], [40, 41]]}})
    page = _section("learning", ReportData(run="r", stages=[stage, StageReport(name="soup")]))
    cells = [page.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0] for name in ("stage1", "soup")]
    assert all(f">{cell}<" in cells[0] for cell in ("1,200", "3", "0.25", "1.50", "8–17, 40–41"))
    assert not cells[1]
    assert "Spike score" not in _section("learning", ReportData(run="r", stages=[plain]))
