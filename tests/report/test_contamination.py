"""The report says which examples stand in training documents, and never takes what nobody compared for clean."""

from __future__ import annotations

from lehr.evals.flagged import Contamination, Without
from lehr.report import ReportData, ScoreRecord, StageReport, render

STAGES = [StageReport(name=name, stage_kind="pretrain") for name in ("stage1", "base")]
FLAGGED = Contamination(
    compared=["documents"], not_compared=[], kept=2, removed=1, documents=["web/3", "web/<b>", *"abcd"], document_count=9,
    without=Without(value=0.25, stderr=0.05, n=38, clusters=38),
)  # fmt: skip
CLEAN = Contamination(compared=["documents"], not_compared=["prompts of rlvr"], kept=0, removed=0)
UNKNOWN = Contamination(compared=[], not_compared=["what base was trained on"])


def page(*said: Contamination | None) -> str:
    scores = [
        ScoreRecord(stage=stage.name, task="quiz", split="held_out", metric="acc", value=0.5, n=40, contamination=known)
        for stage, known in zip(STAGES, said, strict=True)
    ]
    shown = render(ReportData(run="x", stages=STAGES, scores=scores))
    return " ".join(shown.partition("<h2>Scores</h2>")[2].partition("</section>")[0].replace("\N{NO-BREAK SPACE}", " ").split())


def test_documents_counts_and_the_score_without_are_shown() -> None:
    shown = page(FLAGGED, UNKNOWN)
    assert "Examples of quiz stand in documents that were trained on." in shown
    assert "Of quiz nothing is known for some model or all: that is not none." in shown
    assert "quiz (stage1)" in shown and "quiz (base)" in shown and shown.count("not compared</td>") == 2
    assert "web/3, web/&lt;b&gt;, a, b, c, and 4 more" in shown
    assert "25.0" in shown and ">38<" in shown
    assert shown.count("†</span>") == 1


def test_clean_is_said_only_of_what_was_compared() -> None:
    shown = page(CLEAN, CLEAN)
    assert "No example that was compared stands in a document that was trained on." in shown
    assert "prompts of rlvr" in shown and "†</span>" not in shown and "quiz (" not in shown
    shown = page(UNKNOWN, UNKNOWN)
    assert "No example" not in shown and "Of quiz nothing is known" in shown


def test_older_scores_say_nothing() -> None:
    assert "<h3>Contamination</h3>" not in page(None, None)
