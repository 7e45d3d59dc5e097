"""`lehr list`: what a folder of runs holds."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from lehr.cli.main import main
from lehr.cli.runs import _narrow
from lehr.cli.runs_found import newest, runs
from lehr.monitoring.screen import Screen
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
    assert (rows["stopped"]["stages"], rows["stopped"]["of_stages"]) == (6, 7)
    assert "stopped after export, 6 of 7 stages" in shown and all(row["recipe"] == "e2e" for row in rows.values())
    score = next(r for r in json.loads((trained / "scores.json").read_text()) if r["split"] == "held_out")
    assert rows["done"]["scores"] == f"prose {score['value']:.3f} bits/byte" and rows["stopped"]["scores"] == ""
    made = [json.loads(path.read_text()) for path in trained.glob("artifacts/*/artifact.json")]
    led = [m["cost"] for m in made if m["kind"] not in ("scores", "export")]  # of one model: all that is no score of it
    taken = cast(dict[str, Any], rows["done"]["taken"])
    assert taken["tokens"]["value"] == sum(m["cost"]["tokens"] for m in made if m["kind"] == "checkpoint") == 8192
    assert taken["kwh"]["value"] == pytest.approx(sum(cost["energy_joules"] for cost in led) / 3.6e6)
    assert taken["money"] == {
        "value": None,
        "how": "",
        "missing": ["no price is stated by its recipe (hardware.price_per_hour)"],
    }
    files = sum(f.stat().st_size for f in (tmp_path / "done").rglob("*") if f.is_file())
    assert rows["done"]["bytes"] == files
    written = io.StringIO()
    Screen(file=written, width=80).print(_narrow(runs(tmp_path)))
    lines = written.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines) and sum("8,192 tokens" in line for line in lines) == 3
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
    shutil.copytree(trained, tmp_path / "half")
    [stage1] = (tmp_path / "half/artifacts").glob("stage1-*")
    (stage1 / "artifact.json").write_text('{"kind": "checkpoint"')
    (tmp_path / "begun" / "recipes").mkdir(parents=True)
    shutil.copy(trained / "recipe.yaml", tmp_path / "begun")
    (tmp_path / "only-a-recipe").mkdir()
    shutil.copy(trained / "recipe.yaml", tmp_path / "only-a-recipe")
    rows = _rows(capsys, tmp_path)
    assert rows.keys() == {"changed", "broken", "half", "begun"}
    assert rows["changed"]["state"] == "stopped" and rows["broken"]["recipe"] == "?"
    assert (rows["broken"]["damaged"], rows["broken"]["scores"]) == (["scores.json"], "")
    assert (rows["half"]["damaged"], rows["half"]["taken"]) == ([f"artifacts/{stage1.name}/artifact.json"], None)
    assert (rows["begun"]["state"], rows["begun"]["reached"], rows["begun"]["taken"]) == ("stopped", "", None)
    assert main(["list", str(tmp_path)]) == 0
    assert f"finished; damaged: artifacts/{stage1.name}/artifact.json" in capsys.readouterr().out


def test_scores_elsewhere_are_listed_beside_runs(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made by hand as `lehr eval` leaves them, in a run and outside of one."""
    shutil.copytree(trained, tmp_path / "run")
    for place in (tmp_path / "run" / "evals", tmp_path / "mine"):
        shutil.copytree(next(trained.glob("artifacts/scores-stage1-*")), place / "artifacts" / "scores-stage1-0")
        shutil.copy(trained / "scores.json", place)
    rows = _rows(capsys, tmp_path)
    assert rows.keys() == {"run", "evals", "mine"} and newest(tmp_path) == tmp_path / "run"
    for name in ("evals", "mine"):
        assert (rows[name]["state"], rows[name]["reached"], rows[name]["recipe"]) == ("scores", "stage1", "–")
        assert rows[name]["taken"] == rows["run"]["taken"] and "arithmetic 0.0 %" in str(rows[name]["scores"])


def test_places_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("no runs in runs yet")
    assert main(["list", "nowhere"]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert main(["list", "s3://bucket/x"]) == 2
