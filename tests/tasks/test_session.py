"""One session a process; what names a run in MLflow; what is remembered of reuse."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from lehr.config import load_recipe
from tasks.refs import RunRef
from tasks.reuse import Reuse
from tasks.run import run_key
from tasks.session import open_session, session

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny" / "olmo2.yaml"


def test_a_run_keeps_its_name_and_another_recipe_or_folder_gets_another() -> None:
    recipe, other = load_recipe(TINY), load_recipe(TINY, ["seed=8"])
    key = run_key(recipe, Path("/runs/a"))
    assert run_key(load_recipe(TINY), Path("/runs/a")) == key
    assert len({key, run_key(other, Path("/runs/a")), run_key(recipe, Path("/runs/b"))}) == 3


def test_every_task_of_a_process_shares_one_session_and_its_metrics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(TINY)
    run = RunRef(recipe=recipe, root=str(tmp_path), key="k")
    opened = open_session(recipe, tmp_path, "k", mlflow=False)
    try:
        assert session(run) is opened
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", capfd.readouterr().out)
        assert found is not None
        url = found.group()
        opened.around(run).tracker.stage_finished("soup", uri="u", reused=True, seconds=1.0)
        assert opened.reuse.stages == {"soup"}
        assert 'stage="soup"' in urllib.request.urlopen(url, timeout=5).read().decode()
    finally:
        opened.close()
    with pytest.raises(urllib.error.URLError):  # a closed session serves nothing
        urllib.request.urlopen(url, timeout=5)


def test_only_what_was_found_again_counts_as_reused() -> None:
    reuse = Reuse()
    reuse.stage_finished("stage1", uri="u", reused=True, seconds=1.0)
    reuse.stage_finished("soup", uri="u", reused=False, seconds=1.0)
    assert reuse.stages == {"stage1"}
