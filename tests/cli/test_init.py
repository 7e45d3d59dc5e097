"""`lehr init`: a recipe for one's own documents that validates, and runs."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.runnable import check_runnable

ROOT = Path(__file__).resolve().parents[2]
NOVEL = gzip.decompress((ROOT / "recipes/data/novel.jsonl.gz").read_bytes()).decode().splitlines()


def _file(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.long
def test_the_recipe_runs_as_it_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that YAML reads as something else, and paths with blanks; the run ends with scores of the soup."""
    folder = tmp_path / "My data"
    folder.mkdir()
    rows: list[dict[str, object]] = [{"text": json.loads(line)["text"][:3000]} for line in NOVEL[:16]]
    files = [_file(folder, "no.jsonl", rows[:8]), _file(folder, "A: [b] #1.jsonl", rows[8:])]
    recipe = folder / "recipe.yaml"
    assert main(["init", str(folder), "--data", str(files[0]), "--data", str(files[1])]) == 0
    said = capsys.readouterr().out
    assert "text_no: 8 documents" in said and f"then lehr run {recipe}" in said
    loaded = load_recipe(recipe)
    assert loaded.data and list(loaded.data.sources) == ["text_no", "a_b_1"] and loaded.name == "my-data"
    out = tmp_path / "run"
    assert main(["run", str(recipe), "--out", str(out), "--no-mlflow", "--set", "parallel.processes=1"]) == 0
    scores = json.loads((out / "scores.json").read_text())
    prose = {(r["stage"], r["split"]): r["value"] for r in scores if r["metric"] == "bits_per_byte"}
    assert set(prose) == {(s, split) for s in ("stage1", "anneal-1", "anneal-2", "soup") for split in ("dev", "held_out")}
    assert prose["soup", "held_out"] < prose["stage1", "held_out"] < 8.0


def test_what_was_found_is_said_and_planned_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How often each text is read decides whether a small model learns it by heart; nobody's two cores are an H100."""
    rows: list[dict[str, object]] = [{"text": json.loads(line)["text"]} for line in NOVEL[:16]]
    chunks = sum(-(-len(str(row["text"])) // 6000) for row in rows)
    assert main(["init", str(tmp_path / "mine"), "--data", str(_file(tmp_path, "novel.jsonl", rows))]) == 0
    said = capsys.readouterr().out
    assert re.search(r"novel: 16 documents in (\d+) chunks", said)[1] >= str(chunks)  # type: ignore[index]
    tokens, times = re.search(r"([\d,]+) tokens of pretraining, every text about ([\d.]+) times", said).groups()  # type: ignore[union-attr]
    assert int(tokens.replace(",", "")) > 0 and 1.0 < float(times) <= 4.0 and "held back for scores" in said
    assert main(["plan", str(tmp_path / "mine" / "recipe.yaml")]) == 0
    assert "on 2 x x86 core" in capsys.readouterr().out


def test_what_is_commented_out_works_when_it_is_not(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "mine"), "--data", "recipes/data/novel.jsonl.gz"]) == 0
    path = tmp_path / "mine" / "recipe.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line[1:] if re.match(r"#(?! \S)", line) else line for line in lines]  # a remark begins with a blank
    path.write_text("\n".join(kept), encoding="utf-8")
    loaded = load_recipe(path)
    check_runnable(loaded)
    assert [step.name for step in loaded.posttraining] == ["sft"] and loaded.evaluation.tasks[1].task == "chat_math"


def test_other_languages_are_kept(tmp_path: Path) -> None:
    text = "Le soleil se lève sur la mer et les pêcheurs sont dans le port avec une barque pour la journée. Personne ne savait "
    text += "quand il serait possible de partir, car la tempête en mer ne se calmait pas pour cette nuit. "
    rows: list[dict[str, object]] = [
        {"id": f"d{i}", "text": f"{text}C'était le numéro {i} de la ville, où {i + 7} hommes attendaient."} for i in range(60)
    ]
    assert main(["init", str(tmp_path / "fr"), "--data", str(_file(tmp_path, "fr.jsonl", rows))]) == 0
    filters = yaml.safe_load((tmp_path / "fr" / "recipe.yaml").read_text())["data"]["filters"]
    assert filters["language"] == {"keep": ["fr"]}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": json.loads(NOVEL[0])["text"] * 3}], "too few documents (1)"),
        ([{"id": "one", "text": json.loads(line)["text"]} for line in NOVEL[:9]], "all 9 documents have one id"),
        ([{"text": "short"}], "no document of 1 passes the filters"),
        ([{"txt": "no"}], "no `text` in this line"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_and_nothing_written(
    rows: list[dict[str, object]], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, "data.jsonl", rows)
    assert main(["init", str(tmp_path / "mine"), "--data", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and says in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_a_recipe_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    assert main(["init", str(tmp_path), "--data", "recipes/data/novel.jsonl.gz"]) == 2
    assert "there is a recipe here already" in capsys.readouterr().err
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
