"""Formats, scales, layout and score tables, by numbers that a reader can check."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.report import format as fmt
from lehr.report import render
from lehr.report.charts import Dot, dot_plot
from lehr.report.curves import Axes, Series, bucketed, curve_panel
from lehr.report.data import ReportData, StageReport
from lehr.report.lineage import draw, layers_of, needed_edges
from lehr.report.scores import ScoreRecord, score_matrix, soup_rows
from lehr.report.speed import Row
from lehr.report.svg import Scale, route, tick_labels
from lehr.runtime.metrics import metric
from tests.report.example import example


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
    chart = curve_panel("x", [Series("dpo", "red", points)], Axes("x", "step", percent=True)).chart
    shown = [float(t) for t in _texts(chart)[:12] if re.fullmatch(r"\d+\.?\d*", t)]
    assert max(shown) <= 100 and sum(t > 90 for t in shown) >= 2
    dots = dot_plot([Dot("a", 0.97, 0.05, "97"), Dot("b", 1.0, 0.0, "100")], label="x", percent=True)
    assert "110" not in _texts(dots) and "105" not in _texts(dots)
    assert len(Scale(0.92, 1.08, 0, 100).ticks(3)) > 1  # one round number would be alone there
    assert len(Scale(2.1, 4.9, 0, 100, log=True).ticks()) > 1


def test_values_are_told_where_the_pointer_is() -> None:
    long = Series("stage1", "red", [(float(i), 3.0 - i / 100) for i in range(100)])
    axes = Axes("loss", "tokens seen")
    found = curve_panel("loss", [long, Series("<ramp>", "blue", [(99.0, 2.0)])], axes).readings
    assert len(found) == 48 and found[-1].said == "tokens seen: 98\nstage1: 2.020\n<ramp>: 2.000"
    assert "ramp" not in "".join(r.said for r in found[:-1])
    # From the axis to the right edge (50 to 452 of 460), each where the one before it ends: the pointer is always at one.
    few = curve_panel("loss", [Series("a", "red", [(0.0, 1.0), (30.0, 2.0), (90.0, 3.0)])], axes).readings
    for readings in (found, few):
        ends = [r.left + r.width for r in readings]
        assert readings[0].left == 10.9 and abs(ends[-1] - 98.3) < 0.11
        assert all(abs(end - after.left) < 0.11 for end, after in zip(ends, readings[1:], strict=False))
    assert [r.said.partition("\n")[0] for r in few] == ["tokens seen: 0", "tokens seen: 30", "tokens seen: 90"]
    assert "<title>a: 97 ± 5</title>" in dot_plot([Dot("a", 0.97, 0.05, "97 ± 5")], label="x")


def test_readings_are_one_group_for_the_keyboard_and_have_names_for_a_screen_reader() -> None:
    curve = [{"step": s, "tokens": s, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1} for s in (1.0, 2.0)]
    page = _section("learning", ReportData(run="r", stages=[StageReport(name='"<b>', phase="pretraining", curves=curve)]))
    groups = re.findall(r'role="radiogroup" aria-label="values of ([^"]+)">(.*?)</div>', page, re.S)
    names = [set(re.findall(r'name="(\w+)"', inside)) for _, inside in groups]
    assert len(groups) == 3 and all(len(n) == 1 for n in names) and len(set.union(*names)) == 3
    said = re.findall(r'aria-label="([^"]+)">', groups[0][1])
    assert said == ["tokens seen: 1\n&#34;&lt;b&gt;: 2.000", "tokens seen: 2\n&#34;&lt;b&gt;: 2.000"]


def _kinds(chart: str) -> list[str]:
    return re.findall(r'<g class="(lin|log)"', chart)


def test_a_chart_holds_both_axes_where_a_logarithm_shows_something() -> None:
    def drawn(values: Sequence[float], **wishes: bool) -> str:
        return curve_panel("x", [Series("a", "red", list(enumerate(values)))], Axes("x", "x", **wishes)).chart

    falling = [10.0 / (i + 1) for i in range(20)]
    assert re.findall(r'<g class="(\w+)" display="none"', drawn(falling, log=True)) == ["lin"]  # also without a style sheet
    assert _kinds(drawn(falling, log=True)) == ["log", "lin"] and "suits-log" in drawn(falling, log=True)
    assert _kinds(drawn(falling)) == ["lin", "log"] and "suits-lin" in drawn(falling)
    assert _kinds(drawn([*falling, 0.0])) == ["lin", "log"]  # a rate that ends at 0
    for values in ([2.0, 2.5, 3.0], [-1.0, 10.0, 100.0], [0.0, 0.0, 0.0, 1.0, 100.0], [0.0, 0.0]):
        assert not _kinds(drawn(values, log=True)), values
    assert not _kinds(drawn(falling, percent=True))
    # The point at 0 has no place on the logarithmic axis, and is not put on its edge.
    paths = re.findall(r'class="raw" d="([^"]+)"', drawn([*falling, 0.0]))
    assert [len(re.findall(r"-?[\d.]+", p)) // 2 for p in paths] == [21, 20]


def test_a_route_goes_through_every_point_to_a_tenth() -> None:
    points = [(50.04, 198.0), (50.36, 10.123), (61.0, 10.08), (61.09, 197.09), (300.5, 0.26)]
    numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", route(points))]
    places = list(itertools.accumulate(zip(numbers[::2], numbers[1::2], strict=True), lambda a, b: (a[0] + b[0], a[1] + b[1])))
    assert all(math.dist(a, b) < 0.071 for a, b in zip(places, points, strict=True)) and len(places) == 5
    assert route(points[:1]) == "M50 198"


def test_bands_that_would_hide_each_other_are_left_out_and_noise_is_smoothed() -> None:
    def drawn(points: list[tuple[float, float]], band: bool = True) -> str:
        return curve_panel("x", [Series("a", "red", points, band=band)], Axes("x", "x")).chart

    many = [(float(i), float(i % 2)) for i in range(300)]
    assert 'class="band"' in drawn(many) and 'class="band"' not in drawn(many, band=False)
    noisy, plain = [(float(i), float(i % 2)) for i in range(60)], [(float(i), float(i)) for i in range(60)]
    assert drawn(noisy).count('class="curve both noisy"') == 1 and drawn(noisy).count('class="sm" d=') == 1
    assert 'class="sm"' not in drawn(plain)  # its mean is no other curve
    bent = [(float(i), 5.0 + math.sin(i / 6)) for i in range(60)]
    steady = re.findall(
        r'class="sm" display="none" d="M[\d.]+ ([\d.]+)l.*?"', drawn([(float(i), 10.0 - i + i % 2) for i in range(60)])
    )
    assert [float(y) < 20 for y in steady] == [True]  # the mean of a fall begins at its top, where one side alone would lag
    assert 'class="curve both"' in drawn(bent)  # the mean is there for whoever asks for it
    assert drawn([]) == ""


def test_what_the_choices_of_a_page_hide_is_in_its_drawings() -> None:
    """The style sheet's selectors name inputs and classes that a page has: a class renamed on one side alone fails here."""
    page = render(example())
    sheet = page.partition("<style>")[2].partition("</style>")[0] + page.partition("</style>")[2].partition("</style>")[0]
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.S)
    rules = [rule for rule in re.findall(r"[^{}]+(?=\{)", sheet) if re.search(r"\.(sm|raw|lin|log|noisy|readings|to)\b", rule)]
    used = set(re.findall(r"\.([a-z][\w-]*)", " ".join(rules)))
    there = {name for names in re.findall(r'class="([^"]+)"', page.rpartition("</style>")[2]) for name in names.split()}
    assert len(rules) > 15 and used - there == set()
    for anchor in ("learning", "post-training", "speed"):
        for what in ("fit", "lin", "log", "some", "raw", "smooth"):
            assert f'id="{anchor}-{what}"' in page and f'for="{anchor}-{what}"' in page
    # Nothing may hide a value from somebody who prints, or whose browser does not know a selector.
    assert page.count("checked>") == 6


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
    stage = StageReport(name="stage1", phase="pretraining", curves=points, tokens=300, flops=300 * 6e6, seconds=2.0)
    assert stage.speeds() == [(100.0, 200.0), (200.0, 200.0), (300.0, 200.0)]
    later = {"name": "sft", "phase": "post-training", "curves": points[:2], "tokens": 400, "seconds": 0.5}
    chat = stage.model_copy(update=later)
    page = _section("speed", ReportData(run="r", stages=[stage, chat], peak_flops=4.8e9))
    titles = [title.strip() for title in re.findall(r"<h3>(Speed[^<]+)", page)]
    assert titles == ["Speed, tokens per second", "Speed, tokens per second, post-training"]
    share = page.partition("Model FLOPs utilisation, %")[2]  # 200 tokens/s x 6 MFLOP of 4.8 GFLOP/s
    assert "stage1: 25.00" in share and "of 0.00480 TFLOP/s" in share
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.S)
    cells = [re.findall(r">([^<>\n]+)</t[hd]>", row) for row in rows]
    assert cells[0] == ["stage1", "3", "0.500 s", "0.500 s", "200", "25.0 %", "1.5 s", "75 %"]
    assert cells[1] == ["sft", "2", "0.500 s", "0.500 s", "400", "37.5 %", "1.0 s", "–"]  # its clock saw the last attempt alone
    assert "utilisation" not in _section("speed", ReportData(run="r", stages=[stage]))
    assert Row.of(stage.model_copy(update={"curves": [{"step": 1.0, "loss": 2.0}]}), 1e9) is None


def test_scores_on_the_way_are_drawn_by_source() -> None:
    def points(first: int) -> list[dict[str, float | None]]:
        keys = ("dev_bits_per_byte", "dev_bits_per_byte@bible", "dev_bits_per_byte@<b>")
        return [{"step": s, "tokens": 10.0 * s, **dict.fromkeys(keys, 3.0 - (first + s) / 10)} for s in (1.0, 2.0)]

    names = (("stage1", [], 0), ("a", ["stage1"], 2), ("b", ["stage1"], 2))
    stages = [StageReport(name=n, phase="pretraining", parents=p, curves=points(first)) for n, p, first in names]
    page = _section("learning", ReportData(run="r", stages=stages))
    panel = page.partition(", by source")[2].partition("</p>")[0]
    assert "along stage1, a<" in panel and panel.count('class="raw"') == 2
    assert re.findall(r"</i>([^<]+)", panel) == ["&lt;b&gt;", "bible"] and "bible: 2.600" in panel
    assert page.count(", by source <") == 1 and "by source" not in _section("learning", ReportData(run="r", stages=stages[:0]))


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
    assert table.best(table.columns[0]) == set()  # nothing is chosen by held-out scores
    dev = score_matrix({**r, "split": "dev"} for r in records)
    assert dev.best(dev.columns[0]) == {"anneal-9", "anneal-10"}
    equal = score_matrix({**record(stage, 0.0), "split": "dev"} for stage in ("stage1", "soup"))
    assert equal.best(equal.columns[0]) == set()


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
