"""One session a process; what names a run in MLflow; what is remembered of reuse."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lehr.config import load_recipe
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.tasks.opening import run_key
from lehr.tasks.progress import Progress
from lehr.tasks.refs import RunRef
from lehr.tasks.session import open_session, session
from lehr.tasks.tracked_run import TrackedRun

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny" / "olmo2.yaml"


def test_a_run_keeps_its_name_and_another_recipe_or_folder_gets_another() -> None:
    recipe, other = load_recipe(TINY), load_recipe(TINY, ["seed=8"])
    key = run_key(recipe, Path("/runs/a"))
    assert run_key(load_recipe(TINY), Path("/runs/a")) == key
    assert len({key, run_key(other, Path("/runs/a")), run_key(recipe, Path("/runs/b"))}) == 3


def test_every_task_of_a_process_shares_one_session_and_its_metrics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(TINY)
    run = RunRef(recipe="r", root=str(tmp_path), key="k")
    opened = open_session(run, recipe, ["soup"], mlflow=False)
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
    opened = open_session(RunRef(recipe="r", root=str(tmp_path), key="k"), load_recipe(TINY), ["soup"])
    opened.close()
    said = capfd.readouterr()
    assert opened.mlflow is None and (said.out + said.err).count("MLflow") == 1 and "pip install 'lehr[track]'" in said.out


def test_only_what_was_found_again_counts_as_reused() -> None:
    progress = Progress("run")
    progress.stage_finished("stage1", uri="u", reused=True, seconds=1.0)
    progress.stage_finished("soup", uri="u", reused=False, seconds=1.0)
    assert progress.reused == {"stage1"}


def _tracked(run: RunRef, monkeypatch: pytest.MonkeyPatch, uri: str = "") -> MlflowTracker:
    """The MLflow tracker of a session for this run, which has ended."""
    made: list[MlflowTracker] = []

    class Kept(MlflowTracker):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.arguments, self.options = arguments, options
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("lehr.tasks.session.MlflowTracker", Kept)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    opened = open_session(run, load_recipe(TINY), ["soup"])
    opened.close()
    return made[0]


def test_mlflow_is_told_what_started_the_run_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-8c1f")
    command = "lehr run http://me:planted@host/r.yaml --set x=planted-8c1f"
    run = RunRef(
        recipe="r", root=str(tmp_path), key="0123456789abcdef", command=command, source="http://me:planted@host/r.yaml"
    )
    tags = _tracked(run, monkeypatch).arguments[5]
    assert tags["mlflow.source.name"] == "http://***@host/r.yaml" and tags["mlflow.source.type"] == "LOCAL"
    assert tags["lehr.command"] == "lehr run http://***@host/r.yaml --set x=***"
    assert tags["lehr.run"] == f"{load_recipe(TINY).name}-01234567"
    assert tags["lehr.recipe"] == load_recipe(TINY).name and tags["lehr.model_family"] == "olmo2" and tags["lehr.host"]
    own = _tracked(run, monkeypatch)
    assert own.options["order"] == ["soup"] and own.options["pending"] == tmp_path / "mlflow-pending"
    assert own.options["shared"] is None  # one process has the run's folder
    monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "log"))
    pod = _tracked(run, monkeypatch, "http://127.0.0.1:9")
    assert pod.arguments[5]["mlflow.source.type"] == "JOB" and isinstance(pod.options["shared"], TrackedRun)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    opened = open_session(run, load_recipe(TINY), ["soup"])
    opened.close()
    assert opened.mlflow is None  # its file would go with the pod


@pytest.mark.parametrize(
    ("pod", "over", "done", "failed"),
    [(True, False, False, None), (True, True, False, True), (True, False, True, False), (False, False, False, True)],
)
def test_a_run_goes_on_when_a_pod_of_it_ends(
    pod: bool, over: bool, done: bool, failed: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What trackers hear at the end of a process: that the run failed, that it is done, or that it goes on elsewhere."""
    if pod:
        monkeypatch.setenv("LEHR_TERMINATION_LOG", str(tmp_path / "log"))
    opened = open_session(RunRef(recipe="r", root=str(tmp_path), key="k"), load_recipe(TINY), ["soup"], mlflow=False)
    told: list[bool | None] = []
    monkeypatch.setattr(opened.tracker, "close", lambda *, failed: told.append(failed))
    opened.over, opened.done = over, done
    opened.close()
    assert told == [failed]


def test_in_a_file_of_its_own_a_run_that_was_copied_keeps_its_name_and_on_a_server_its_place_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [RunRef(recipe="r", root=str(tmp_path / name), key=name * 8) for name in ("a", "b")]
    own = [_tracked(run, monkeypatch) for run in runs]
    assert own[0].options["run_key"] == own[1].options["run_key"]
    assert [one.arguments[3] for one in own] == [(tmp_path / name / "mlflow-artifacts").as_uri() for name in ("a", "b")]
    shared = [_tracked(run, monkeypatch, "http://127.0.0.1:9") for run in runs]
    assert [one.options["run_key"] for one in shared] == ["aaaaaaaa", "bbbbbbbb"]
    assert [one.arguments[3] for one in shared] == [None, None]


def test_the_run_is_told_apart_in_its_metrics_and_the_terminal_says_how(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(TINY)
    for name in ("a", "b"):
        opened = open_session(RunRef(recipe="r", root=str(tmp_path / name), key=name * 16), recipe, [], mlflow=False)
        said = capfd.readouterr().out
        url = re.search(r"http://127\.0\.0\.1:\d+/metrics", said)
        assert url is not None and f'(run="{recipe.name}-{name * 8}")' in said
        served = urllib.request.urlopen(url.group(), timeout=5).read().decode()
        opened.close()
        assert f'lehr_run_info{{name="{recipe.name}",place="{name}",run="{recipe.name}-{name * 8}"}} 1.0' in served
