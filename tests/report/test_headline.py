"""The first lines: where it was computed, the scores to know first, and what got worse."""

from __future__ import annotations

import pytest

from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from lehr.report import Environment, ReportData, ScoreRecord, StageReport, render
from lehr.report.headline import headline_columns
from lehr.report.verdicts import regressions
from lehr.runtime.errors import UserError
from tests.pipeline.test_graph import E2E
from tests.report.example import example


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


def test_what_got_worse_is_told_by_its_stage() -> None:
    found = {(r.stage, r.column.task): r for r in regressions(DATA)}
    assert set(found) == {("rlvr", "word_problems")}  # prose was not scored at rlvr's parent
    worse = found["rlvr", "word_problems"]
    assert (worse.parents, worse.before, worse.after.value) == (["sft"], 0.911, 0.876)
    assert worse.errors == pytest.approx(0.035 / (0.025 * 2**0.5))
    row = render(DATA).partition("<h3>Got worse</h3>")[2].partition("</table>")[0]
    assert "word problems, exact match" in row and "<strong>−3.5</strong>" in row and "<small>sft</small>" in row
    soup = [_record("soup", "prose", "bits_per_byte", 2.08, 0.01), *SCORES]  # a later record takes its place
    assert not [r for r in regressions(ReportData(run="x", stages=STAGES, scores=soup)) if r.stage == "soup"]
    soup = [*SCORES, _record("soup", "prose", "bits_per_byte", 2.08, 0.01)]  # its ingredients' mean is 2.05
    bad = next(r for r in regressions(ReportData(run="x", stages=STAGES, scores=soup)) if r.stage == "soup")
    assert (bad.parents, bad.before) == (["a", "b"], pytest.approx(2.05))
    assert "No stage is worse" in render(ReportData(run="x", stages=STAGES, scores=SCORES[:3]))
    alone = render(ReportData(run="x", stages=STAGES, scores=SCORES[:1])).partition("<header>")[2].partition("</header>")[0]
    assert "worse" not in alone  # where nothing is compared nothing is said


def test_many_regressions_are_folded() -> None:
    data = example()
    assert len(regressions(data)) == 6
    header = render(data).partition("</header>")[0]
    assert header.count("<summary>") == 1 and "1 more, less sure" in header


def test_headline_scores_are_the_recipes_or_one_of_each_task() -> None:
    def names(data: ReportData) -> list[str]:
        return [f"{c.task}/{c.metric}" for c in headline_columns(data)]

    assert names(DATA) == ["prose/bits_per_byte", "chat_format/strict", "chat_math/strict", "word_problems/exact_match"]
    chosen = ["word_problems/exact_match", "chat_math/asked_format", "nothing/strict"]
    data = DATA.model_copy(update={"headline": chosen})
    assert names(data) == chosen[:2]
    tile = render(data).partition('class="tile"')[2].partition("</div>")[0]
    assert "87.6" in tile and "at rlvr, from 0.0% at stage1" in tile and "best at b: 92.0%" in tile


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
