"""`lehr recipes`: what comes with Lehr is found by name from anywhere, and a copy of it is the same recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.shipped import FOLDER, names
from lehr.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that commands are given in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_whole_recipe_is_listed_and_those_that_run_come_first(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    whole = {f"{p.parent.name}/{p.stem}" for p in (ROOT / "recipes").glob("*/*.yaml") if p.parent.name != "hardware"}
    assert {row["name"] for row in rows} == whole and len(whole) >= 18
    complete = [row["name"] for row in rows if row["complete"]]
    assert complete == sorted(name for name in whole if name.startswith("tiny/")) == [r["name"] for r in rows[: len(complete)]]
    largest = next(row for row in rows if row["name"] == "released/olmo2-13b")
    assert 13e9 < largest["parameters"] < 14e9 and largest["gpu_hours"] > 1e5
    experts = next(row for row in rows if row["name"] == "tiny/granite3-moe")
    assert experts["active"] < experts["parameters"]
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert all(row["name"] in shown and row["description"] in shown for row in rows)


def test_a_name_stands_for_a_shipped_recipe_unless_a_file_has_it(elsewhere: Path) -> None:
    recipe = load_recipe("tiny/olmo2", ["seed=3"], "hardware/jupiter")
    assert recipe.seed == 3 and recipe.name == "tiny-olmo2" and recipe.hardware and recipe.hardware.count > 100
    own = elsewhere / "tiny" / "olmo2"
    own.parent.mkdir()
    own.write_text("name: [")
    with pytest.raises(UserError, match="not YAML"):
        load_recipe("tiny/olmo2")


NOWHERE = ["tiny/olmo3", "../recipes/tiny/olmo2", "tiny", "recipes/tiny/olmo2.yaml", "a\0b", "x" * 252, "x" * 300]


@pytest.mark.parametrize("name", NOWHERE)
def test_a_recipe_that_is_nowhere_is_refused_with_the_way_to_the_names(
    name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "`lehr recipes` lists them" in said


@pytest.mark.parametrize("name", names())
def test_a_copy_is_the_same_recipe_and_needs_nothing_of_lehrs_folder(
    name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "copy", name, "mine"]) == 0
    said = capsys.readouterr().out
    copy = Path("mine", f"{name}.yaml")
    assert f"next: lehr run {copy}" in said
    assert main(["validate", str(copy)]) == 0
    pinned = capsys.readouterr().out
    assert str(FOLDER) not in pinned
    original = load_recipe(name).model_dump(mode="json")
    assert yaml.safe_load(pinned.replace(str(elsewhere / "mine"), str(FOLDER))) == original
    reads = any(source.get("path") for source in (original["data"] or {"sources": {}})["sources"].values())
    assert (elsewhere / "mine/data/LICENSE-PSF-2.0.txt").is_file() == reads


def test_a_second_copy_adds_what_is_missing_and_nothing_is_written_over(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "copy", "tiny/olmo1"]) == 0
    assert main(["recipes", "copy", "tiny/granite3-moe"]) == 0  # which shares an ancestor and the texts
    assert (elsewhere / "recipes/tiny/granite3.yaml").is_file()
    capsys.readouterr()
    shared = elsewhere / "recipes" / "tiny-base.yaml"
    shared.write_text("mine")
    assert main(["recipes", "copy", "tiny/olmo2"]) == 2
    said = capsys.readouterr().err
    assert "recipes/tiny-base.yaml: another file has this name" in said and said.count("\n") == 1
    assert shared.read_text() == "mine" and not (elsewhere / "recipes/tiny/olmo2.yaml").exists()
    assert main(["recipes", "copy", "tiny/olmo3"]) == 2
    assert "'tiny/olmo3' is no shipped recipe. Give one of " in capsys.readouterr().err
