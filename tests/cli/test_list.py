"""`lehr list`: what a folder of runs holds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.tasks.lock import held
from tests.cli.conftest import Again


def _rows(capsys: pytest.CaptureFixture[str], place: Path) -> dict[str, dict[str, object]]:
    assert main(["list", str(place), "--json"]) == 0
    return {Path(row["folder"]).name: row for row in json.loads(capsys.readouterr().out)}


def test_finished_stopped_and_working_runs_are_told_apart(
    trained: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("done", "working", "deep/stopped"):
        shutil.copytree(trained, tmp_path / name)
    stopped = tmp_path / "deep" / "stopped"
    for name in ("report.html", "lineage.json", "scores.json"):
        (stopped / name).unlink()
    shutil.rmtree(next((stopped / "artifacts").glob("scores-stage1-*")))
    (tmp_path / "no-run").mkdir()
    with held(tmp_path / "working"):
        rows = _rows(capsys, tmp_path)
        assert main(["list", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
    assert {name: row["state"] for name, row in rows.items()} == {
        "done": "finished",
        "working": "at work",
        "stopped": "stopped",
    }
    assert (rows["stopped"]["stages"], rows["stopped"]["of_stages"]) == (5, 6)
    assert "stopped (5 of 6 stages)" in shown and all(row["recipe"] == "e2e" for row in rows.values())
    score = next(r for r in json.loads((trained / "scores.json").read_text()) if r["split"] == "held_out")
    assert rows["done"]["scores"] == f"prose {score['value']:.3f} bits/byte" and rows["stopped"]["scores"] == ""
    files = sum(f.stat().st_size for f in (tmp_path / "done").rglob("*") if f.is_file())
    assert rows["done"]["bytes"] == files
    assert again(tmp_path / "done") == 0  # asking left nothing held
    capsys.readouterr()
    assert next(iter(_rows(capsys, tmp_path))) == "done"  # the last one worked on is the first


def test_a_changed_recipe_that_was_stopped_is_not_finished_and_damage_is_shown(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "changed")
    later = (tmp_path / "changed/report.html").stat().st_mtime + 60
    os.utime(tmp_path / "changed/recipe.yaml", (later, later))
    shutil.copytree(trained, tmp_path / "broken")
    (tmp_path / "broken/scores.json").write_text("[{")
    (tmp_path / "broken/recipe.yaml").write_text("name: [/b]\n")
    rows = _rows(capsys, tmp_path)
    assert rows["changed"]["state"] == "stopped" and rows["broken"]["recipe"] == "?"


def test_places_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("no runs in runs yet")
    assert main(["list", "nowhere"]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert main(["list", "s3://bucket/x"]) == 2
