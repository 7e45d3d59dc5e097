"""What a fingerprint follows from, as a user asks for it, and what `lehr run` says of a changed recipe."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lehr.cli.main import main
from tests.cli.conftest import E2E, SHORT, Again


def test_the_key_that_changed_is_named_before_anything_is_made_and_afterwards(
    trained: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    assert again(out, "stage1.optim.lr=1e-3") == 0
    said = capsys.readouterr()
    lines = [line.partition("  ")[2] for line in (said.out + said.err).splitlines()]
    assert "made anew, because of optim.lr 0.003 -> 0.001: stage1" in lines
    assert "made anew, because their inputs are: scores-stage1, export" in lines
    assert not any(line.startswith("not made before") for line in lines)
    first = next(i for i, line in enumerate(lines) if line.startswith("stage1: started"))
    assert lines.index("made anew, because of optim.lr 0.003 -> 0.001: stage1") < first

    assert main(["explain", str(out), "stage1"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["setting", "optim.lr", "0.001"] in rows and ["setting", "tokens", "8192"] in rows
    assert {row[1] for row in rows if row and row[0] == "input"} == {"documents", "shards", "tokenizer"}
    assert any(row and row[0] == "code" for row in rows)
    assert "it differs in: optim.lr 0.003 -> 0.001" in shown

    assert main(["explain", str(out), "stage1", "--against", str(trained)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["part", "key", "here", "against"], ["setting", "optim.lr", "0.001", "0.003"]]
    assert main(["explain", str(out), "documents", "--against", str(trained)]) == 0
    assert "the same settings, code and inputs" in capsys.readouterr().out


def test_a_run_that_is_only_not_finished_gives_no_reasons(
    trained: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    shutil.rmtree(next((out / "artifacts").glob("scores-stage1-*")))
    assert again(out) == 0
    said = capsys.readouterr()
    assert "made anew" not in said.out + said.err and "to be made: scores-stage1" in said.out + said.err


def test_a_stage_that_is_not_there_is_one_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(trained), "stage9"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and "no finished 'stage9' here" in said.err


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(
    trained: Path, tmp_path: Path, again: Again, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dry(out: Path, *sets: str) -> list[str]:
        options = [word for value in (*SHORT, *sets) for word in ("--set", value)]
        assert main(["run", str(E2E), "--out", str(out), "--dry-run", *options]) == 0
        return capsys.readouterr().out.splitlines()

    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    lines = dry(trained)
    assert len(lines) > 5 and all(line.endswith("exists") for line in lines[2:])
    changed = "\n".join(dry(trained, "stage1.optim.lr=1e-3"))
    assert re.search(r"stage1 +pretrain +[\d.]+ \w+ +to be made", changed) and re.search(
        r"documents +documents +exists", changed
    )
    assert "made anew, because of optim.lr 0.003 -> 0.001: stage1" in changed
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert all("to be made" in line for line in dry(tmp_path / "new")[2:]) and not (tmp_path / "new").exists()
