"""One session a process; what names a run in MLflow; what is remembered of reuse."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lehr.config import load_recipe
from lehr.tasks.opening import run_key
from lehr.tasks.progress import Progress
from lehr.tasks.refs import RunRef
from lehr.tasks.session import open_session, session

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny" / "olmo2.yaml"


def test_a_run_keeps_its_name_and_another_recipe_or_folder_gets_another() -> None:
    recipe, other = load_recipe(TINY), load_recipe(TINY, ["seed=8"])
    key = run_key(recipe, Path("/runs/a"))
    assert run_key(load_recipe(TINY), Path("/runs/a")) == key
    assert len({key, run_key(other, Path("/runs/a")), run_key(recipe, Path("/runs/b"))}) == 3


def test_every_task_of_a_process_shares_one_session_and_its_metrics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(TINY)
    run = RunRef(recipe="r", root=str(tmp_path), key="k")
    opened = open_session(recipe, ["soup"], tmp_path, "k", mlflow=False)
    try:
        assert session(run, recipe, ["soup"]) is opened
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", capfd.readouterr().out)
        assert found is not None
        url = found.group()
        opened.context(run).tracker.stage_finished("soup", uri="u", reused=True, seconds=1.0)
        assert opened.reused == {"soup"}
        assert 'stage="soup"' in urllib.request.urlopen(url, timeout=5).read().decode()
    finally:
        opened.close()
    with pytest.raises(urllib.error.URLError):  # a closed session serves nothing
        urllib.request.urlopen(url, timeout=5)


def test_where_mlflow_is_not_installed_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lehr.tasks.session.find_spec", lambda name: None)
    opened = open_session(load_recipe(TINY), ["soup"], tmp_path, "k")
    opened.close()
    said = capfd.readouterr()
    assert opened.mlflow is None and (said.out + said.err).count("MLflow") == 1 and "pip install 'lehr[track]'" in said.out


def test_only_what_was_found_again_counts_as_reused() -> None:
    progress = Progress("run")
    progress.stage_finished("stage1", uri="u", reused=True, seconds=1.0)
    progress.stage_finished("soup", uri="u", reused=False, seconds=1.0)
    assert progress.reused == {"stage1"}
