"""`lehr eval` and `lehr compare` with answers that a model judges, at a real server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.evals.task import Record
from lehr.post import engine_client
from lehr.report.scores import ScoreRecord
from tests.cli.conftest import Again
from tests.evals.test_judges import written
from tests.post.pairing.test_making import judging


def test_a_judges_scores_say_whose_they_are(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "_FIRST_WAIT", 0.001)
    run = tmp_path / "run"
    shutil.copytree(trained, run)

    def evaluated(out: str, task: str) -> int:
        return main(["eval", str(run), "--tasks", task, "--out", str(tmp_path / out), "--processes", "1"])

    more = {"split": "held_out", "max_tokens": 4, "name": "mine"}
    with judging(lambda prompt: "no idea" if '"coal"' in prompt else "Rating: 4") as (url, asked):
        task = written(tmp_path / "one", {"judge": {"model": "judge-7b", "url": url}}, **more)
    assert evaluated("a", task) == 2, "it is gone"
    said = capsys.readouterr().err
    assert "did not answer 3 requests" in said and "Start the server, or correct metrics.judge" in said
    assert not list((tmp_path / "a").rglob("openings.jsonl")), "no example was opened, nothing generated"
    with judging(lambda prompt: "no idea" if '"coal"' in prompt else "Rating: 4") as (url, asked):
        task = written(tmp_path / "one", {"judge": {"model": "judge-7b", "url": url}}, **more)
        assert evaluated("a", task) == 0 and len(asked) == 4, "one word before the graph, and three answers"
        told = capsys.readouterr()
        assert evaluated("a", task) == 0 and "found again" in capsys.readouterr().err
        other = written(tmp_path / "two", {"judge": {"model": "judge-70b", "url": url}}, **more)
        assert evaluated("b", other) == 0
    assert "by judge-7b" in told.out and "mine, judge_rating: judged by a model, judge judge-7b (prompt" in told.err
    rows = {row["metric"]: row for row in json.loads((tmp_path / "a" / "scores.json").read_text())}
    assert rows["judge_rating"]["value"] == pytest.approx(3 / 9)
    assert rows["judge_unreadable"]["value"] == pytest.approx(1 / 3)
    assert rows["judge_rating"]["scored_by"]["model"] == "judge-7b"
    older = {"judged_by" if key == "scored_by" else key: value for key, value in rows["judge_rating"].items()}
    for kind in (ScoreRecord, Record):
        assert kind.model_validate(older) == kind.model_validate(rows["judge_rating"])
    [kept] = (tmp_path / "a" / "artifacts").rglob("judged.jsonl")
    assert [json.loads(line)["reply"] for line in kept.read_text().splitlines()] == ["Rating: 4", "Rating: 4", "no idea"]
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["scores"]:
        assert row["differences"] == [None] and row["judged"].startswith("not compared: judged by judge judge-7b")
    page = tmp_path / "compare.html"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page)]) == 0
    assert "not compared: judged by judge judge-7b" in " ".join(capsys.readouterr().out.split())
    assert "not compared: judged by judge judge-7b" in page.read_text(encoding="utf-8")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "c"), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["scores"]:
        assert row["differences"][0]["value"] == 0.0 and row["judged"].startswith("by judge judge-7b (prompt")


def test_a_run_whose_judge_is_not_there_begins_nothing(
    again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "_FIRST_WAIT", 0.001)
    with judging(lambda prompt: "Rating: 4") as (url, _):
        pass
    for said, words in ((url, "the judge did not answer 3 requests"), ("", "no address of the judge is given")):
        task = written(tmp_path, {"judge": {"model": "judge-7b", "url": said}}, split="held_out")
        assert again(tmp_path / "run", f"evaluation.tasks=[{{task: {task}}}]") == 2
        assert words in capsys.readouterr().err and not list((tmp_path / "run" / "artifacts").glob("*"))
