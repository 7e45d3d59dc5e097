"""Stages of any name: their sections, their order and their colours follow from phase and lineage."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import yaml

from lehr.report import ReportData, ScoreRecord, StageReport, charts, model_card, render
from lehr.report.charts import GREY, PALETTES, Step, colours_of, stage_colours

# name, stage kind, phase, parents
PIPELINE = [
    ("shards", "shards", "data", []),
    ("deep-sea", "pretrain", "pretraining", ["shards"]),
    ("b", "midtrain", "pretraining", ["deep-sea", "shards"]),
    ("c", "midtrain", "pretraining", ["deep-sea", "shards"]),
    ("d", "midtrain", "pretraining", ["deep-sea", "shards"]),
    ("stew", "soup", "soup", ["b", "c"]),
    ("broth", "soup", "soup", ["b", "c", "d"]),
    ("sft", "sft", "post-training", ["broth"]),
    ("reward-model", "reward_model", "post-training", ["sft"]),
    ("rollouts", "preferences", "post-training", ["sft"]),
    ("ppo", "ppo", "post-training", ["sft", "reward-model"]),
]
NOT_MODELS = {"shards": "shards", "rollouts": "preferences"}
CURVE = [{"step": step, "tokens": 10.0 * step, "loss": 3.0 - step} for step in (1.0, 2.0)]


def data(*left_out: str) -> ReportData:
    stages = [
        StageReport(
            name=name, kind=NOT_MODELS.get(name, "checkpoint"), stage_kind=kind, phase=phase, parents=parents,
            curves=CURVE if name not in NOT_MODELS and phase != "soup" else [],
        )
        for name, kind, phase, parents in PIPELINE
        if name not in left_out
    ]  # fmt: skip
    scores = [
        ScoreRecord(stage=s.name, task="t", split="held_out", metric="accuracy", value=0.1 + i / 100, n=9)
        for i, s in enumerate(stages)
        if s.kind == "checkpoint"
    ]
    return ReportData(run="x", stages=stages, scores=[*scores[::-1], scores[0].model_copy(update={"stage": "elsewhere"})])


def section(page: str, anchor: str) -> str:
    return page.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


def test_colours_are_distinct_and_stay_when_a_stage_is_added() -> None:
    colours = stage_colours(data())
    models = {name: colours[name] for name, *_ in PIPELINE if name not in NOT_MODELS}
    assert len(set(models.values())) == len(models) and GREY not in models.values()
    assert colours["shards"] == colours["rollouts"] == colours["elsewhere"] == GREY
    families = {name: re.sub(r"\W*var\(--c-(\w+)-\d\)", r"\1", colour) for name, colour in models.items()}
    assert families == {
        "deep-sea": "trunk", "b": "branch", "c": "branch", "d": "branch", "stew": "merge", "broth": "merge",
        "sft": "post", "reward-model": "post", "ppo": "post",
    }  # fmt: skip
    assert stage_colours(data("ppo", "broth")) == {k: v for k, v in colours.items() if k not in ("ppo", "broth")}
    alone = stage_colours(data("b", "c", "stew", "broth"))  # one anneal has no siblings: it is the next pretraining stage
    assert (alone["deep-sea"], alone["d"]) == ("var(--c-trunk-1)", "var(--c-trunk-2)")
    many = colours_of([Step(f"s{i}", "post-training", i) for i in range(9)])
    assert many["s8"] == many["s0"] and len(set(many.values())) == 8


def _luminance(colour: str) -> tuple[float, list[float]]:
    """Relative luminance (WCAG 2) and the linear parts."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)), linear


def _lab(colour: str) -> tuple[float, float, float]:
    """CIE L*a*b* under D65."""
    y, (r, g, b) = _luminance(colour)
    x, z = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart_and_from_the_paper(theme: int) -> None:
    sheet = Path(charts.__file__).with_name("drawing.css").read_text()
    colours = dict(re.findall(r"--(c-\w+-\d|paper):(#\w{6});", sheet.split("@media")[theme]))
    paper = _luminance(colours.pop("paper"))[0]
    every = list(colours.values())
    assert list(colours) == [f"c-{name}-{n}" for name, size in PALETTES.items() for n in range(1, size + 1)]
    contrasts = sorted((max(y, paper) + 0.05) / (min(y, paper) + 0.05) for y in (_luminance(colour)[0] for colour in every))
    assert contrasts[0] > 2 and contrasts[1] > 3  # one amber of four siblings is light
    assert min(math.dist(_lab(a), _lab(b)) for a, b in itertools.combinations(every, 2)) > 12


def test_sections_choose_by_phase_and_tables_keep_the_order_of_the_stages() -> None:
    page = render(data())
    assert re.findall(r'class="stage-name">([^<]+)', section(page, "post-training")) == ["sft", "reward-model", "ppo"]
    legend = section(page, "learning").partition("</p>")[0]
    assert re.findall(r"</i>([^<]+)", legend) == ["deep-sea", "b", "c", "d"]
    assert "Loss of the anneals alone" in section(page, "learning")
    assert "alone" not in section(render(data("b", "c")), "learning")
    head = re.findall(r'<th scope="col" class="num">([^<]+)', section(page, "scores").partition("</thead>")[0])
    assert head[1:] == ["deep-sea", "b", "c", "d", "stew", "broth", "sft", "reward-model", "ppo", "elsewhere"]


def test_every_soup_has_a_section_of_its_own() -> None:
    page = render(data())
    for number, name, ingredients in ((1, "stew", ["b", "c"]), (2, "broth", ["b", "c", "d"])):
        html = section(page, f"soup-{number}")
        assert f"{name} against its ingredients" in html and f"the weights of {len(ingredients)} models" in html
        rows = re.findall(r'class="row(?: strong)?" text-anchor="end">([^<]+)', html)
        assert rows == [*ingredients, "their mean", name] and f'<a href="#soup-{number}">{name}</a>' in page
    alone = render(data("stew"))
    assert "Soup against its ingredients" in section(alone, "soup") and '<a href="#soup">Soup</a>' in alone
    assert not section(render(data("stew", "broth")), "soup")


def test_the_card_says_what_the_model_went_through() -> None:
    def card(stage: str, *left_out: str) -> tuple[list[str], str]:
        text = model_card(data(*left_out), stage=stage)
        return yaml.safe_load(text.split("---\n")[1])["tags"], text

    tags, text = card("ppo")
    assert tags == ["lehr", "from-scratch", "model-soup", "sft", "reward-model", "ppo"]
    assert "trained from scratch with Lehr" in text and "apply_chat_template" in text
    tags, text = card("deep-sea")
    assert tags == ["lehr", "from-scratch"] and "apply_chat_template" not in text and "model.generate" in text
    tags, text = card("ppo", "deep-sea")  # the first weights came from elsewhere
    assert tags == ["lehr", "model-soup", "sft", "reward-model", "ppo"]
    assert "from scratch" not in text + render(data("deep-sea"))
