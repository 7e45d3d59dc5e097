"""What simpler models reach on the same tokens, wherever bits per byte are shown."""

from __future__ import annotations

import re

from lehr.monitoring.live_view import RunState
from lehr.report import ReportData, ScoreRecord, StageReport, model_card, render
from lehr.report.scores import score_matrix

STAGES = [
    StageReport(
        name="stage1", phase="pretraining", stage_kind="pretrain",
        curves=[{"step": s, "tokens": 10 * s, "loss": 3.0, "dev_bits_per_byte": 3 - s / 5} for s in (1.0, 2.0, 3.0)],
    ),
    StageReport(name="soup", phase="soup", stage_kind="soup", parents=["stage1"]),
    StageReport(name="sft", phase="post-training", stage_kind="sft", parents=["soup"]),
]  # fmt: skip


def _record(stage: str, metric: str, value: float, task: str = "prose", split: str = "held_out") -> ScoreRecord:
    return ScoreRecord(stage=stage, task=task, split=split, metric=metric, value=value, stderr=0.05, n=60)


SCORES = [
    _record("stage1", "bits_per_byte", 2.177),
    _record("stage1", "exact_match", 0.1, "arithmetic"),
    _record("soup", "bits_per_byte", 1.881),
    _record("stage1", "bits_per_byte_3gram", 1.973),
    _record("stage1", "bits_per_byte_xz", 2.178),
    _record("soup", "bits_per_byte_3gram", 1.912),
    _record("stage1", "dev_bits_per_byte_3gram", 1.95, split="dev"),
    _record("sft", "bits_per_byte", 2.3),
]


def _page() -> str:
    return render(ReportData(run="x", stages=STAGES, scores=SCORES)).replace("\N{NO-BREAK SPACE}", " ")


def test_the_first_lines_say_which_model_a_trigram_beats() -> None:
    said = re.findall(r'<li class="(\w*)">([^<]+)', _page().partition('class="against">')[2].partition("</ul>")[0])
    same = "on the same tokens"
    assert said == [
        ("worse", f"prose at stage1: 2.177 bits/byte, worse than token trigram (1.973) but better than xz (2.178) {same}"),
        ("", f"prose at soup: 1.881 bits/byte, better than token trigram (1.912) {same}"),
    ]
    assert 'class="against"' not in render(ReportData(run="x", stages=STAGES, scores=SCORES[:3]))


def test_tables_have_them_right_under_the_models_and_call_none_of_them_best() -> None:
    table = score_matrix(SCORES[:6])
    assert [c.metric for c in table.columns] == ["bits_per_byte", "bits_per_byte_3gram", "bits_per_byte_xz", "exact_match"]
    assert [c.metric for c in table.of_models] == ["bits_per_byte", "exact_match"]
    dev = score_matrix(r.model_copy(update={"split": "dev"}) for r in SCORES[:6])
    assert [dev.best(column) for column in dev.columns] == [{"soup"}, set(), set(), set()]
    html = _page().partition('<table class="scores">')[2].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', html)
    names = [re.findall(r"<small>([^<±]+)", row)[0] for row in rows]
    same = "on the same tokens, bits per byte ↓"
    assert names == ["bits per byte ↓", f"token trigram {same}", f"xz {same}", "exact match, %"]
    assert "1.973" in rows[1] and "1.912" in rows[1] and "<strong>" not in rows[1]
    card = model_card(ReportData(run="x", stages=STAGES, scores=SCORES), stage="soup")
    assert "token trigram on the same tokens" in card.partition("## Scores")[2]
    assert "3gram" not in card.partition("## How to load it")[0]  # no result of the model's


def test_a_curve_on_the_way_has_the_trigrams_level() -> None:
    learning = _page().partition('<section id="learning">')[2].partition("</section>")[0]
    panel = learning.partition("dev bits per byte")[2].partition("</svg>")[0]
    assert panel.count('class="guide"') == 1 and "3-gram, stage1" in panel
    scores = _page().partition('<section id="scores">')[2].partition("</section>")[0]
    assert "dev token" not in scores


def test_the_display_keeps_a_models_own_score() -> None:
    state = RunState("x", ["stage1"])
    state.scored("stage1", [r.model_dump() for r in SCORES[:1]])
    state.scored("stage1", [r.model_dump() for r in SCORES[3:5]])
    assert state.headline["stage1"] == "prose 2.177 bits/byte"
