"""The tasks and the command on an object store: what one machine made, another finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.config import load_recipe
from lehr.config.recipe import Recipe
from lehr.tasks.opening import open_run, resolved, run_stage_of
from lehr.tasks.refs import RunRef
from lehr.tasks.run_location import local
from lehr.tasks.session import open_session

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "e2e" / "recipe.yaml"
SMALL = ["data.sources.arithmetic.documents=20", "data.sources.word_problems.documents=20"]


def _first_stages(root: str, recipe: Recipe) -> tuple[list[Artifact], frozenset[str]]:
    """Documents and tokenizer, as Flyte's tasks make them; and which of them were found again."""
    session = open_session(RunRef(recipe="r", root=root, key="key"), recipe, [], mlflow=False)
    try:
        run = open_run(resolved(RECIPE, SMALL), root).run
        corpus = run_stage_of(run, "documents", {})
        words = run_stage_of(run, "tokenizer", {"documents": corpus})
        assert all(ref.uri.startswith(f"{root}/artifacts/") for ref in (corpus, words))
        return [Artifact.open(local(ref.uri), uri=ref.uri) for ref in (corpus, words)], session.reused
    finally:
        session.close()


@pytest.mark.long
def test_a_run_goes_on_on_another_machine(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "1"))
    recipe = load_recipe(RECIPE, SMALL)
    made, reused = _first_stages(root, recipe)
    assert not reused
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "2"))
    found, reused = _first_stages(root, recipe)
    assert reused == {"documents", "tokenizer"}
    assert [a.ref for a in found] == [a.ref for a in made]
    assert all(a.folder.is_relative_to(tmp_path / "2") for a in found)
    assert [a.ref for a in found[1].parents()] == [found[0].ref]
    assert not any(str(tmp_path) in a.path("artifact.json").read_text() for a in found)  # no machine's paths are in it

    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "3"))
    dropped = _lehr("dropped", root)
    assert dropped.returncode == 0 and "documents dropped" in dropped.stderr
    nothing = _lehr("show", root)
    assert nothing.returncode == 2
    assert nothing.stderr == (
        f"error: {root}: no finished checkpoint there. Give a run's address or an artifact's; `lehr run` makes one.\n"
    )
    shown = _lehr("show", found[1].uri)
    assert shown.returncode == 0 and "tokenizer" in shown.stdout and "documents" in shown.stdout


def _lehr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lehr.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
