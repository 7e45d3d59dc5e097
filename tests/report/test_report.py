"""The page: safe, self-contained, complete, and true to its data."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import yaml
from markdown_it import MarkdownIt

from lehr.report import Environment, ReportData, SourceFunnel, StageReport, model_card, render
from lehr.report.data import Sample, Site
from lehr.report.learning import offsets
from tests.report.example import example

VOID = {"meta", "br", "input"}  # parts of a drawing close themselves


class Reader(HTMLParser):
    """Checks that tags close in order, and collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(example())


def test_page_has_no_script_and_no_address(page: str) -> None:
    reader = Reader(page)
    assert not reader.tags & {"script", "img", "iframe", "link", "object", "embed", "form"}
    assert not [a for a in reader.attributes if a[0].startswith("on") or a[0] in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    assert "http" not in page.replace("http-equiv", "") and "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_every_link_of_the_contents_has_its_section(page: str) -> None:
    anchors = {value for name, value in Reader(page).attributes if name == "id"}
    links = {value[1:] for name, value in Reader(page).attributes if name == "href"}
    assert links <= anchors and len(links) == 13
    labels = [value for name, value in Reader(page).attributes if name == "for"]
    assert anchors - links == set(labels) and len(labels) == 3 * 6  # of three sections' choices
    assert "position:sticky" in page.partition(".lehr-report nav{")[2].partition("}")[0]


@pytest.mark.parametrize(("prompts", "summary"), [(4, ""), (5, "The other prompt"), (12, "The other 8 prompts")])
def test_conversations_beyond_the_first_few_are_folded(prompts: int, summary: str) -> None:
    samples = [Sample(prompt=f"prompt {i}", answers={"sft": f"answer {i}"}) for i in range(prompts)]
    section = render(ReportData(run="r", samples=samples)).partition('id="conversations"')[2].partition("</section>")[0]
    open_part, folded, rest = section.partition("<details>")
    assert open_part.count("<article") == 4 and rest.count("<article") == prompts - 4 and bool(folded) == bool(summary)
    assert summary in rest and all(f"answer {i}<" in section for i in range(prompts))


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    """Every text field of the data at once: markup, quotes, escape sequences, direction overrides."""
    evil = "-</style><script>alert(1)</script>\"'&\x1b[31m\u202e"

    def poison(value: object) -> object:
        if isinstance(value, str):
            return value + evil
        if isinstance(value, dict) and "phase" in value:  # the code's own words, by which the sections choose their stages
            return {k: v if k in ("phase", "stage_kind") else poison(v) for k, v in value.items()}
        if isinstance(value, dict):
            return {str(poison(k)) if isinstance(k, str) and v_is_free(k) else k: poison(v) for k, v in value.items()}
        return [poison(v) for v in value] if isinstance(value, list) else value

    fields = set(ReportData.model_json_schema()["properties"]) | {
        name for part in ReportData.model_json_schema()["$defs"].values() for name in part["properties"]
    }

    def v_is_free(key: str) -> bool:  # names of fields stay, names that come from data do not; nor do curve keys that are read
        return key not in fields and key not in ("step", "tokens", "loss", "learning_rate")

    made = example()
    made.stages[3].incidents = ["2026-11-23 10:05 restarted"]
    page = render(ReportData.model_validate(poison(made.model_dump())))
    assert page.count("restarted-&lt;/style&gt;&lt;script&gt;") == 1
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "<script>alert(1)</script>" in "".join(reader.text)
    assert "\x1b" not in page and "\u202e" not in page
    card = model_card(ReportData.model_validate(poison(example().model_dump())))
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    text = "".join(re.split(r"^(`{3,})\w*\n.*?^\1$", card.split("---\n", 2)[2], flags=re.MULTILINE | re.DOTALL)[::2])
    assert "<" not in text and "\x1b" not in card and "\u202e" not in card


@pytest.mark.parametrize("text", ["a\\|b", "a|b\n| c", "`|`", "[x](y)", "**b**", "<!-- ", "```\n# x", "_em_", "&lt;"])
def test_text_is_never_markdown(text: str) -> None:
    """Held to a reader of GitHub's Markdown: the cell has the text, and nothing beside it."""
    funnel = {text: SourceFunnel(read=1, kept=1, license=text, origin=text)}
    data = ReportData(run=text, description=text, funnel=funnel, environment=Environment(command=text))
    card = model_card(data, model_id=text)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("---\n", 2)[2])
    shown = " ".join(text.split())
    reader = Reader(html)
    assert reader.tags <= {"h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert "".join(reader.text).count(shown) >= 5
    assert (html.count("<td"), html.count("<h1"), html.count("<pre")) == (5, 1, 2)


def test_numbers_of_the_data_reach_the_page(page: str) -> None:
    text = " ".join("".join(f" {t} " for t in Reader(page).text).split())
    assert "Every stage is scored on the same held-out examples" in text
    assert "36,262 documents were read and 34,503 kept (95.1 %)" in text  # sums of the table in example.py
    # 449.7 s at 14 W: 6,295.8 J = 1.75 Wh of IT energy; x 1.1 = 1.92 Wh; x 0.35 kg/kWh = 673 mg
    assert "1.75 Wh of IT energy, estimated from CPU seconds, not measured; 1.92 Wh at the building, 673 mg of CO₂" in text
    # soup against (anneals' mean, best): prose, math and continuation win both; arithmetic wins both; word problems
    # 59.0 against (57.8, 59.5); mcf 25.0 against (25.5, 27.0)
    assert "no worse than the mean of its ingredients in 5 of 6" in text and "with hindsight, in 4." in text
    assert "Small triangles mark the 2 skipped steps" in text
    assert "lehr run recipes/tiny/olmo2.yaml" in text
    # 0.454 / 0.0084 = 54.0 standard errors; 0.428 / 0.0152 = 28.2
    assert "rm bradley-terry all domains 627 95.4 % ±0.8 54.0 0.01 -0.42 list 291 92.8 % ±1.5 28.2 one 1 100.0 % –" in text
    assert "right 0.75 12 0.50 0.62" in text and "best-rows 2 0.48 35.3 % ±1.4 300" in text


def test_best_of_each_row_is_bold_on_the_dev_split_alone_and_less_can_be_better(page: str) -> None:
    held_out, dev = (table.partition("</table>")[0] for table in page.split('<table class="scores">')[1:3])
    assert "<strong>" not in held_out
    rows = re.findall(r"<tr>(.*?)</tr>", dev, re.S)[1:]
    bold = {re.search(r'scope="row">([^<]+)', row)[1]: re.findall(r"<strong>([^<]+)", row) for row in rows}  # type: ignore[index]
    assert bold == {"prose": ["2.036"], "arithmetic": ["78.3"]}


def test_sections_without_anything_in_them_are_named_and_not_shown() -> None:
    page = render(ReportData(run="empty"))
    assert re.findall(r'<section id="([a-z-]+)">', page) == ["reproduce"]
    absent = "Scores, Soup, Before and after, Stages, Pretraining, Post-training, Reward models, Speed, Data, Lineage"
    assert f"Not in this run: {absent}, Time and energy, Plan and reality." in page
    alone = StageReport(name="stage1", phase="pretraining", stage_kind="pretrain", curves=[{"step": 1, "loss": 2.0}])
    page = render(ReportData(run="one", stages=[alone]))
    assert re.findall(r'<section id="([a-z-]+)">', page) == ["timeline", "learning", "lineage", "cost", "reproduce"]
    assert "Not in this run:" not in render(example())
    assert "nan" not in page.lower().replace("finance", "")
    assert "No energy was recorded" in model_card(ReportData(run="empty"))


@pytest.mark.parametrize("phase", ["pretraining", "post-training"])
def test_values_that_are_no_numbers_do_not_break_the_curves(phase: str) -> None:
    curve = [{"step": 1.0, "loss": 3.0}, {"step": 2.0, "loss": float("nan"), "skipped": 1.0}, {"step": 3.0, "loss": None}]
    stage = StageReport(name="x", phase=phase, curves=[*curve, {"step": 4.0, "loss": float("inf")}])
    page = render(ReportData(run="x", stages=[stage]))
    paths = re.findall(r' (?:d|cx|cy|x1|y1|y)="([^"]*)"', page)
    assert paths and not [d for d in paths if "nan" in d or "inf" in d]
    assert ("1 skipped step." in page) == (phase == "pretraining")


def test_anneals_begin_where_the_ramp_ends() -> None:
    """800 + 450 steps of 2,048 tokens, whether the log holds tokens per step, tokens so far, or none."""
    data = example()
    want = 2048.0 * 1250
    assert {offsets(data)[f"anneal-{s}"] for s in (42, 42069, 666)} == {want}
    for stage in data.stages:
        for i, point in enumerate(stage.curves):
            point["tokens"] = 2048.0 * (i + 1)
    assert offsets(data)["anneal-42"] == want
    for stage in data.stages:
        for point in stage.curves:
            del point["tokens"]
    assert offsets(data)["anneal-42"] == want  # from the stage's own total


def test_rows_of_in_loop_evaluations_repeat_their_place() -> None:
    curve = [
        {"step": 1.0, "tokens": 10.0, "loss": 2.0},
        {"step": 1.0, "tokens": 10.0, "prose": 3.0},
        {"step": 2.0, "tokens": 20.0},
    ]
    stage = StageReport(name="stage1", phase="pretraining", curves=curve)
    assert stage.places() == [10.0, 10.0, 20.0] and stage.series("prose") == [(10.0, 3.0)]
    assert "while training" in render(ReportData(run="x", stages=[stage]))


def test_stages_are_put_into_the_order_of_the_pipeline() -> None:
    """As a workflow hands them over: grouped by kind, the soup before its ingredients."""
    rows = [("soup", ["a", "b"]), ("stage1", ["shards"]), ("a", ["stage1"]), ("b", ["stage1"]), ("shards", []), ("x", ["gone"])]
    scores = [("scores-soup", ["soup", "shards"]), ("scores-stage1", ["stage1", "shards"]), ("scores-gone", ["gone"])]
    stages = [StageReport(name=n, parents=p) for n, p in rows] + [
        StageReport(name=n, parents=p, kind="scores") for n, p in scores
    ]
    got = [s.name for s in ReportData(run="x", stages=stages).stages]
    assert got == ["shards", "x", "stage1", "scores-stage1", "a", "b", "soup", "scores-soup", "scores-gone"]


def test_sparse_log_of_tokens_per_step_counts_the_steps_between() -> None:
    stage = StageReport(name="stage1", curves=[{"step": float(s), "tokens": 100.0} for s in (1, 10, 20)])
    assert stage.places() == [100.0, 1000.0, 2000.0]


def test_energy_without_a_meter_is_not_zero_energy() -> None:
    stages = [
        StageReport(name="a", energy_joules=0.0, energy_source="none"),
        StageReport(name="b", energy_joules=7.2e6, energy_source="nvml"),
    ]
    data = ReportData(run="x", stages=stages, site=Site(pue=1.5, carbon_kg_per_kwh=0.4))
    assert data.it_energy == 7.2e6 and data.facility_energy == pytest.approx(1.08e7) and data.carbon_kg == pytest.approx(1.2)
    assert data.water_liters is None
    assert "not recorded" in render(data) and "measured by the GPUs" in render(data)


def test_model_card_has_valid_front_matter_and_loads_nothing_else() -> None:
    card = model_card(example(), model_id="model")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0" and head["pipeline_tag"] == "text-generation"
    results = {r["dataset"]["type"]: r["metrics"][0] for r in head["model-index"][0]["results"]}
    assert results["chat_math"] == {"type": "exact_match", "value": 0.793, "name": "exact_match"}  # of rlvr, the last stage
    assert "79.3 ± 2.3" in card and "**79.3" not in card and "King James Version" in card and "PSF-2.0" in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows if "stage1 |" in line or "prose" in line} == {13}


def test_a_reason_with_a_bar_in_it_stays_in_its_cell() -> None:
    data = ReportData(run="x", funnel={"a|b": SourceFunnel(read=1, kept=1, license="MIT | BSD")})
    row = next(line for line in model_card(data).splitlines() if "MIT" in line)
    assert row == "| a\\|b | – | MIT \\| BSD | 1 of 1 | 0 |"
