"""Merges in runs and by the command, and what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.interop import convert
from lehr.pipeline.explain import parts_of
from lehr.report.card import model_card
from lehr.report.data import ReportData, StageReport
from lehr.report.page import render
from tests.stages.merges import Zoo, family, foreign, run


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "first")


@pytest.mark.long
def test_a_run_merges_models_of_another_run_and_shows_them(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "find_spec", lambda name: None)  # the export's proof is not the subject, and takes seconds
    root, code, math = family(zoo)
    alike = Zoo(tmp_path / "third").make("code", [root], 6)  # of another run, under the same name
    merges = [
        {"kind": "merge", "name": "both", "parents": [str(code.folder), str(alike.folder)], "method": "dare_ties"},
        {"kind": "merge", "name": "found", "parents": ["both", str(math.folder), "base"],
         "search": {"task": "arithmetic_cf", "metric": "acc", "points": 2, "limit": 4}},
    ]  # fmt: skip
    tasks = [{"task": "arithmetic_cf", "limit": 4}]
    said = {
        "name": "merging", "base": {"checkpoint": str(root.folder)}, "posttraining": merges, "parallel": {"threads": 1},
        "evaluation": {"tasks": tasks, "max_new_tokens": 8, "in_loop_steps": 0},
    }  # fmt: skip
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(said))
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    rows = {row["stage"]: row for row in json.loads((out / "lineage.json").read_text())}
    assert set(rows) >= {"base", "code", "math", "code-2", "code/middle", "both", "found"} and "code/root" not in rows
    of_both = {p["digest"] for p in rows["both"]["parents"]}
    assert of_both == {code.manifest.digest, alike.manifest.digest}
    found = Artifact.open(next((out / "artifacts").glob("found-*")))
    assert {p.stage for p in found.manifest.parents} == {"both", "math", "root"}
    report, card = (out / "report.html").read_text(), (out / "model" / "README.md").read_text()
    assert "found, merged of 3 models" in report and "Search of the weights: 2 points" in report
    assert (
        "DARE with TIES&#39; signs: code 1, code-2 1, drop 0.9, scale 1. Ancestor in common: base." in report
        and "Held-out examples were not read" in report
        and "searched-merge" in card
    )
    capsys.readouterr()
    assert main(["show", str(found.folder)]) == 0
    assert "linear: both 0.3333, math 0.3333, root 0.3333" in capsys.readouterr().out
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    assert "found again: all" in capsys.readouterr().out
    alien = foreign(zoo)
    said["posttraining"] = [{"kind": "merge", "parents": [str(code.folder), str(alien.folder)]}]
    path.write_text(yaml.safe_dump(said))
    assert main(["run", str(path), "--out", str(tmp_path / "none"), "--no-mlflow"]) == 2
    assert "it has no ancestor in common with" in capsys.readouterr().err
    assert not list(tmp_path.glob("none/artifacts/*"))


def test_the_command_makes_what_a_recipe_makes(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, code, math = family(zoo)
    monkeypatch.chdir(zoo.folder)
    places = ["code", "math"]  # the lineage names them from everywhere
    assert main(["merge", *places, "--method", "ties", "--density", "0.3", "--out", str(tmp_path / "out")]) == 0
    assert "TIES: code 1, math 1, density 0.3, scale 1; ancestor in common root" in capsys.readouterr().out
    made, stage = Artifact.open(tmp_path / "out"), run(tmp_path / "second", [code, math], method="ties", density=0.3)
    assert made.manifest.meta == stage.manifest.meta and [p.uri for p in made.manifest.parents] == [code.uri, math.uri]
    assert made.path("model.safetensors").read_bytes() == stage.path("model.safetensors").read_bytes()
    for arguments, says in (
        ([*places], "exists already"),
        (places[:1], "needs two parents"),
        ([*places, "--weight", "1"], "1 for 2 parents"),
        ([*places, "--density", "0.3"], "density: a setting of ties"),
        ([*places, "--method", "slerp", "--at", "2"], "--at: expected less than or equal to 1"),
        ([*places, places[0]], "this parent stands twice"),
        ([*places, "--base", str(root.folder)], "--base: linear needs no ancestor"),
        ([*places, "--method", "ties", "--base", places[0]], "does not come from"),
        ([*places, "--method", "ties", "--base", str(zoo.make("aside", [], 9).folder)], "does not come from"),
    ):
        place = tmp_path / ("out" if says == "exists already" else "none")
        assert main(["merge", *arguments, "--out", str(place)]) == 2
        assert says in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_parents_of_one_name_are_told_apart(zoo: Zoo, tmp_path: Path) -> None:
    root, code, _ = family(zoo)
    alike = Zoo(tmp_path / "third").make("code", [root], 6)
    found = parts_of(run(tmp_path / "second", [code, alike]).manifest)
    assert found["input code"] == code.manifest.digest and found["input code 2"] == alike.manifest.digest


def test_a_report_names_what_was_merged_and_how() -> None:
    """An ancestor is a parent of the artifact, but none of the merged models."""
    said = {
        "merged": ["c", "m"], "ingredients": ["code", "math"], "method": "ties", "ancestor": {"stage": "root", "digest": "r"},
        "settings": {"weights": [1.0, 2.0], "normalise": True, "density": 0.2, "scale": 1.0},
    }  # fmt: skip
    stage: dict[str, Any] = {"kind": "checkpoint", "phase": "post-training", "energy_joules": 2.0, "energy_source": "rapl"}
    stages = [
        StageReport(name="root", digest="r", stage_kind="soup", **stage),
        StageReport(name="code", digest="c", stage_kind="sft", parents=["r"], **stage),
        StageReport(name="math", digest="m", stage_kind="sft", parents=["r"], **stage),
        StageReport(name="both", digest="b", stage_kind="merge", parents=["c", "m", "r"], merge=said, **stage),
    ]
    values = {"root": 0.1, "code": 0.4, "math": 0.6, "both": 0.55}
    scores = [
        {"stage": name, "task": "chat_math", "split": "held_out", "metric": "exact_match", "value": value, "n": 9}
        for name, value in values.items()
    ]
    data = ReportData.model_validate({"run": "r", "stages": [s.model_dump() for s in stages], "scores": scores})
    page = render(data)
    assert "TIES: code 1, math 2, density 0.2, scale 1. Ancestor in common: root." in page
    assert "no worse than the mean of its parents in 1 of 1 held-out scores" in page and "both against its parents" in page
    assert data.it_energy == 8.0 and all(f"`{name}`" in model_card(data) for name in values)
