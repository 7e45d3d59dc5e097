"""The first lines: where it was computed, the scores to know first, and what got worse."""

from __future__ import annotations

import random
import statistics

import pytest

from lehr.config import load_recipe
from lehr.evals.items import ItemScores
from lehr.pipeline.graph import graph
from lehr.report import Environment, ReportData, ScoreRecord, StageReport, render
from lehr.report.headline import headline_columns
from lehr.report.verdicts import changes
from lehr.runtime.errors import UserError
from tests.pipeline.test_graph import E2E


def _record(stage: str, task: str, metric: str, value: float, stderr: float = 0.025) -> ScoreRecord:
    return ScoreRecord(stage=stage, task=task, split="held_out", metric=metric, value=value, stderr=stderr, n=150)


def _model(name: str, kind: str, phase: str, *parents: str, **params: object) -> StageReport:
    return StageReport(name=name, stage_kind=kind, phase=phase, parents=list(parents), params=params)


LAYOUT = {"processes": 2, "threads": 1, "layout": "flat"}
STAGES = [
    _model("stage1", "pretrain", "pretraining", precision="bf16", parallel=LAYOUT),
    _model("a", "midtrain", "pretraining", "stage1", precision="bf16", parallel=LAYOUT),
    _model("b", "midtrain", "pretraining", "stage1", precision="bf16", parallel=LAYOUT),
    _model("soup", "soup", "soup", "a", "b"),
    _model("sft", "sft", "post-training", "soup", parallel=LAYOUT),
    _model("rlvr", "grpo", "post-training", "sft", parallel=LAYOUT),
]
SCORES = [
    *(_record(s, "prose", "bits_per_byte", v) for s, v in (("stage1", 2.2), ("a", 2.1), ("b", 2.0), ("soup", 2.06))),
    _record("rlvr", "prose", "bits_per_byte", 2.3),
    _record("stage1", "word_problems", "exact_match", 0.0),
    *(_record(s, "word_problems", "exact_match", v) for s, v in (("a", 0.90), ("b", 0.92), ("soup", 0.911), ("sft", 0.911))),
    _record("rlvr", "word_problems", "exact_match", 0.876),
    *(_record(s, "chat_format", "strict", v, 0.0) for s, v in (("soup", 0.0), ("sft", 1.0), ("rlvr", 1.0))),
    *(_record(s, "chat_math", "asked_format", v) for s, v in (("soup", 0.0), ("rlvr", 0.9))),
    *(_record(s, "chat_math", "strict", v) for s, v in (("soup", 0.0), ("rlvr", 0.7))),
    *(_record(s, "preference", "kl", v) for s, v in (("sft", -1.0), ("rlvr", -2.0))),  # no way is called better
]
ENVIRONMENT = Environment(cpu="AMD EPYC 9B14", cores=2, torch="2.13.0")
DATA = ReportData(run="x", stages=STAGES, scores=SCORES, environment=ENVIRONMENT)


def test_precision_layout_and_machine_are_named() -> None:
    said = "Computed in bf16, later stages in fp32, by 2 processes of 1 thread (flat), on 2 cores of AMD EPYC 9B14"
    assert f"{said}, with PyTorch 2.13.0." in render(DATA)
    assert "Precision, layout and machine are not recorded." in render(ReportData(run="x"))
    odd = _model("s", "own", "post-training", parallel="wide")  # a plug-in's own word
    assert "wide" in render(ReportData(run="x", stages=[odd]))


def _answers(stage: str, values: list[float], task: str = "word_problems", metric: str = "exact_match") -> ItemScores:
    return ItemScores(
        stage=stage, task=task, split="held_out", metric=metric, examples=task, values=values, weights=[], clusters=[]
    )


def _scored(*answers: ItemScores) -> ReportData:
    """A report of the scores that these answers are of, of the models of STAGES."""
    found = []
    for one in answers:
        n, mean = len(one.values), sum(one.values) / len(one.values)
        error = (sum((v - mean) ** 2 for v in one.values) / n / (n - 1)) ** 0.5
        record = _record(one.stage, one.task, one.metric, mean, error)
        found.append(record.model_copy(update={"n": n}))
    return ReportData(run="x", stages=STAGES, scores=found, items=list(answers))


def test_what_got_worse_is_what_the_same_examples_say() -> None:
    """Of 400 questions the parent answers 200, with a standard error of 2.5 %. A stage that loses 12 of them and gains none is
    about as near as that and surely worse; one that loses 60 and gains 45 is further away, and chance explains it."""
    before = [1.0] * 200 + [0.0] * 200
    surely, by_chance = [0.0] * 12 + before[12:], [0.0] * 60 + [1.0] * 185 + [0.0] * 155
    data = _scored(
        *(_answers("soup", before, task) for task in ("word_problems", "arithmetic")),
        _answers("sft", surely, "word_problems"), _answers("sft", by_chance, "arithmetic"),
    )  # fmt: skip
    worse, chance = changes(data)
    # 12 that differ, all for one side: twice 2^-12, and times the two tested.
    assert worse.is_worse and worse.difference.adjusted == pytest.approx(2 * 2 / 2**12) and worse.difference.how == "paired"
    apart = [y - x for x, y in zip(before, by_chance, strict=True)]
    error = statistics.stdev(apart) / 20
    assert chance.difference.value == pytest.approx(-15 / 400) and 1.4 * (chance.after.stderr or 1.0) < 15 / 400
    assert chance.difference.stderr == pytest.approx(error) and not chance.is_worse
    assert chance.difference.adjusted == pytest.approx(0.1434, abs=0.001)  # t = 1.466 of 399
    assert chance.difference.detectable == pytest.approx((1.966 + 0.8425) * error, rel=1e-3)
    row = render(data).partition("<h3>Got worse</h3>")[2].partition("</table>")[0]
    assert "word problems, exact match" in row and "<strong>−3.0</strong>" in row and "<small>soup</small>" in row


def test_a_soup_is_beside_the_mean_of_its_ingredients_example_by_example() -> None:
    rng = random.Random(4)
    hard = [rng.gauss(2.0, 0.5) for _ in range(60)]  # what they have in common is most of what differs between texts
    a, b, soup = ([x + shift + rng.gauss(0.0, 0.01) for x in hard] for shift in (0.0, 0.02, 0.03))
    answers = [_answers(s, values, "prose", "bits_per_byte") for s, values in (("a", a), ("b", b), ("soup", soup))]
    [change] = changes(_scored(*answers))
    apart = [z - (x + y) / 2 for x, y, z in zip(a, b, soup, strict=True)]
    assert (change.stage, change.parents, change.is_worse) == ("soup", ["a", "b"], True)
    assert change.difference.value == pytest.approx(statistics.mean(apart))
    assert change.difference.stderr == pytest.approx(statistics.stdev(apart) / 60**0.5)
    unpaired = _scored(*answers).model_copy(update={"items": []})
    [change] = changes(unpaired)  # of a run of an earlier version: independent, and too wide to tell
    assert change.difference.how == "independent" and not change.is_worse
    page = render(unpaired).partition("</header>")[0]
    assert "No stage made a held-out score significantly worse." in page and "Got worse" not in page
    alone = render(ReportData(run="x", stages=STAGES, scores=SCORES[:1])).partition("<header>")[2].partition("</header>")[0]
    assert "worse" not in alone  # where nothing is compared nothing is said


def test_an_anneal_that_is_best_by_held_out_scores_is_not_named() -> None:
    top = render(DATA).partition("</header>")[0].replace("</small>", "")
    assert "87.6" in top and "at rlvr, from 0.0% at stage1" in top
    tiles = top.partition("<h3>")[0].partition("<details>")[0]
    assert "best" not in tiles and "92.0" not in tiles


def test_headline_scores_are_the_recipes_or_one_of_each_task() -> None:
    def names(data: ReportData) -> list[str]:
        return [f"{c.task}/{c.metric}" for c in headline_columns(data)]

    assert names(DATA) == ["prose/bits_per_byte", "chat_format/strict", "chat_math/strict", "word_problems/exact_match"]
    chosen = ["word_problems/exact_match", "chat_math/asked_format", "nothing/strict"]
    data = DATA.model_copy(update={"headline": chosen})
    assert names(data) == chosen[:2]
    tile = render(data).partition('class="tile"')[2].partition("</div>")[0]
    assert "87.6" in tile and "at rlvr, from 0.0% at stage1" in tile


@pytest.mark.parametrize(
    ("name", "says"),
    [("arithmetic", "not task/metric"), ("prose/nothing", "not task/metric"), ("prase/bits_per_byte", "no evaluation task")],
)
def test_headline_names_are_known_at_validation(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        graph(load_recipe(E2E, [f"evaluation.headline=[{name}]"]))


def test_a_recipe_that_scores_less_than_its_parent_need_not_say_so_twice() -> None:
    headline = "evaluation.headline=[prose/bits_per_byte, chat_format/strict]"
    graph(load_recipe(E2E, [headline, "evaluation.tasks=[{task: prose}]"]))
    none_scored = DATA.model_copy(update={"headline": ["nothing/strict"]})
    assert headline_columns(none_scored) == headline_columns(DATA) != []
