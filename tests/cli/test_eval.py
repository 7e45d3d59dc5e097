"""`lehr eval`: a finished model is scored again, and nothing is trained."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lehr.cli.main import main
from lehr.evals import run as evaluation
from lehr.evals.held_out import Ledger, openings_of_run, read_openings
from lehr.runtime.metrics import metric

BY_SOURCE = Path(__file__).resolve().parents[2] / "docs" / "tasks" / "by_source.yaml"


def _scores(folder: Path, split: str) -> dict[tuple[str, str], tuple[float, int]]:
    rows: list[dict[str, Any]] = json.loads((folder / "scores.json").read_text())
    own = [r for r in rows if not metric(r["metric"]).baseline_of]  # of models alone
    return {(r["task"], r["metric"]): (r["value"], r["n"]) for r in own if r["split"] == split}


def _contamination(folder: Path) -> dict[str, Any]:
    """By task, of models alone."""
    rows: list[dict[str, Any]] = json.loads((folder / "scores.json").read_text())
    return {row["task"]: row["contamination"] for row in rows if not metric(row["metric"]).baseline_of}


def test_a_run_is_scored_with_its_own_settings_and_with_other_tasks(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = sorted(p.name for p in (run / "artifacts").iterdir())
    assert main(["eval", str(run), "--tasks", "prose,arithmetic"]) == 0  # with the limits of the run, too
    assert _scores(run / "evals", "held_out") == _scores(run, "held_out")
    assert _contamination(run / "evals") == _contamination(run)
    assert all(said["compared"] == ["documents"] and said["kept"] == 0 for said in _contamination(run).values())
    told = [line for line in capsys.readouterr().err.splitlines() if "contamination" in line]
    assert len(told) == 1 and "arithmetic, held_out: no example stands in training documents" in told[0]
    command = ["eval", str(run), "--tasks", "arithmetic_cf", "--tasks", "chat_math", "--limit", "3", "--split", "dev"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert set(_scores(run / "evals", "dev")) >= {("arithmetic_cf", "acc"), ("chat_math", "exact_match")}
    assert [line.split()[:2] for line in said.out.splitlines()[1:3]] == [["arithmetic_cf", "dev"]] * 2
    assert "task 2 of 2" in said.err and f"scores: {run / 'evals' / 'scores.json'}" in said.err
    assert main(command) == 0
    assert "scores-stage1: found again" in capsys.readouterr().err
    assert sorted(p.name for p in (run / "artifacts").iterdir()) == before
    # The run's own scores opened both tasks for its model, and so did the first command, for the same model: nothing to say.
    assert "have been opened" not in said.err
    found = openings_of_run(run)
    assert [(o.model, o.task, o.n) for o in found] == [("stage1", task, 4) for task in ("prose", "arithmetic")] * 2
    assert found[0].digest == found[2].digest and found[0].examples == found[2].examples and found[0].who
    assert "Openings of held-out examples" in (run / "report.html").read_text(encoding="utf-8")
    elsewhere = ["eval", str(run), "--tasks", "arithmetic", "--limit", "2", "--out", str(tmp_path / "elsewhere")]
    assert main(elsewhere) == 0 and len(read_openings(run / "openings.jsonl")) == 1  # with the run too
    assert main(elsewhere) == 0 and len(openings_of_run(run)) == 5  # found again: nothing was opened
    other = found[0].model_copy(update={"digest": "of another", "task": "arithmetic"})
    Ledger(run / "openings.jsonl", "", "").record(other)
    assert main(elsewhere) == 0
    assert "held-out examples of arithmetic have been opened 4 times for 2 models of this run" in capsys.readouterr().err


def test_a_hugging_face_folder_is_scored_on_the_documents_that_a_run_held_back(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own export: the same weights give the scores of the checkpoint, by another way."""
    out = tmp_path / "evals"
    options = ["--tasks", "arithmetic,prose", "--limit", "4", "--out", str(out), "--processes", "1"]
    assert main(["eval", str(trained / "model"), *options]) == 2
    said = capsys.readouterr().err
    assert "task prose needs documents" in said and "--documents" in said and not out.exists()
    recipe = ["--seed", "7", "--max-new-tokens", "12", "--documents", str(trained)]
    assert main(["eval", str(trained / "model"), *options, *recipe]) == 0
    told = capsys.readouterr().err
    assert _scores(out, "held_out").keys() == _scores(trained, "held_out").keys()
    assert _scores(out, "held_out")["arithmetic", "exact_match"] == _scores(trained, "held_out")["arithmetic", "exact_match"]
    other = tmp_path / "others"  # the checkpoint: two scored models are compared like runs, item by item
    assert main(["eval", str(trained), *options[:1], "arithmetic", *options[2:4], "--out", str(other)]) == 0
    capsys.readouterr()
    assert main(["compare", str(out), str(other), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    apart = {row["task"]: row["differences"][0] for row in compared["scores"]}
    assert apart["arithmetic"]["how"] == "paired" and apart["prose"] is None
    assert [run["missing"] for run in compared["runs"]] == [[], []]
    # What somebody else's model was trained on is not known, and documents that it is scored on are not that.
    said = _contamination(out)
    assert all(s["kept"] is None and s["not_compared"] == ["what model was trained on"] for s in said.values()) and said
    unknown = "prose, held_out: not known; not compared: what model was trained on"
    assert any("contamination of " in line and unknown in line for line in told.splitlines())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tasks", "proze"], ["there is no evaluation task 'proze'", "arithmetic_cf"]),
        (["--tasks", ","], ["no task is named"]),
        (["--tasks", "arithmetic", "--max-new-tokens", "120"], ["context of 128", "Lower the answers to"]),
        (["--tasks", "chat_math", "--max-new-tokens", "128"], ["task chat_math: prompts of up to"]),
        (["--tasks", "preference"], ["task preference needs preferences", "--pairs"]),
        (["--tasks", "prose", "--documents", "nowhere"], ["nowhere: there is no such folder"]),
    ],
)
def test_what_cannot_be_scored_is_said_before_any_work(
    options: list[str], says: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["eval", str(trained), "--out", str(out), *options]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    assert all(part in said.err for part in says), said.err
    assert not out.exists()


class _Killed(BaseException):
    """Stands for SIGKILL: nothing is done when it is raised."""


def test_a_killed_evaluation_goes_on_with_the_next_task_and_writes_the_same_files(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after two of three tasks, and one of the two kept files is damaged: that task and the third are scored again."""
    command = ["eval", str(trained), "--tasks", f"{BY_SOURCE},chat_math,prose", "--limit", "3", "--processes", "1", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    plain, asked = evaluation.score, list[str]()

    def scored(*arguments: Any, **named: Any) -> Any:
        asked.append(arguments[2])
        if len(asked) == 3:
            raise _Killed
        return plain(*arguments, **named)

    monkeypatch.setattr(evaluation, "score", scored)
    assert main([*command, str(tmp_path / "cut")]) != 0
    kept = sorted((tmp_path / "cut").glob("work/*/scored/*.json"))
    assert len(kept) == 2 and asked == ["by_source", "chat_math", "prose"]
    (chat,) = (path for path in kept if "chat_math" in path.read_text())
    chat.write_text(chat.read_text().replace("chat_math", "chat_meth", 1))
    capsys.readouterr()
    assert main([*command, str(tmp_path / "cut")]) == 0
    assert asked[3:] == ["chat_math", "prose"]
    assert "by_source, held_out: scored before this attempt, and kept" in capsys.readouterr().err
    assert not list((tmp_path / "cut").glob("work/*/scored"))
    ours, theirs = (next((tmp_path / run / "artifacts").glob("scores-*")) for run in ("cut", "whole"))
    for name in ("scores.json", "items.jsonl", "contaminated.jsonl", "samples.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.long
def test_an_evaluation_killed_by_the_kernel_goes_on(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL once the first task's scores are kept, while answers of the second are generated."""
    command = ["eval", str(trained), "--tasks", "arithmetic_cf,arithmetic", "--limit", "1000", "--processes", "1", "--out"]
    running = subprocess.Popen(
        [sys.executable, "-m", "lehr.cli.main", *command, str(tmp_path / "cut")], cwd=Path(__file__).parents[2]
    )
    try:
        until = time.monotonic() + 120
        while not list((tmp_path / "cut").glob("work/*/scored/*.json")):
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.005)
    finally:
        running.kill()
    assert running.wait() == -signal.SIGKILL
    assert main([*command, str(tmp_path / "cut")]) == 0
    assert "arithmetic_cf, held_out: scored before this attempt, and kept" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "whole")]) == 0
    ours, theirs = (next((tmp_path / run / "artifacts").glob("scores-*")) for run in ("cut", "whole"))
    for name in ("scores.json", "items.jsonl", "contaminated.jsonl", "samples.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
