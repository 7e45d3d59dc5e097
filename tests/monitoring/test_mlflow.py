"""MLflow as a restarted run leaves it, against a real sqlite store; when it is opened; and a store that is down."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring import mlflow_schema, mlflow_store
from lehr.monitoring.mlflow_keys import flatten, key_of
from lehr.monitoring.mlflow_tracker import MlflowTracker


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow file with its schema."""
    path = tmp_path_factory.mktemp("mlflow") / "new" / "mlflow.db"
    mlflow_store.prepare(f"sqlite:///{path}")
    return path


@pytest.fixture
def open_tracker(empty_store: Path, tmp_path: Path) -> Callable[..., MlflowTracker]:
    shutil.copy(empty_store, tmp_path / "mlflow.db")

    def make(**changes: Any) -> MlflowTracker:
        return MlflowTracker(
            f"sqlite:///{tmp_path}/mlflow.db", "lehr", "tiny", (tmp_path / "artifacts").as_uri(),
            tags={"git.sha": "abc"},
            **{"params": {"model": {"n_layers": 4}}, "run_key": "here", "flush_seconds": 0.05, **changes},
        )  # fmt: skip

    return make


def runs(folder: Path) -> dict[str, list[Any]]:
    """All runs of the store by name, oldest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("lehr")
    found: dict[str, list[Any]] = {}
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
        found.setdefault(run.info.run_name, []).append(run)
    return found


def steps(folder: Path, run: Any, key: str) -> list[int]:
    from mlflow.tracking import MlflowClient

    return sorted(m.step for m in MlflowClient(f"sqlite:///{folder}/mlflow.db").get_metric_history(run.info.run_id, key))


def train(tracker: MlflowTracker, stage: str, first: int, last: int, total: int) -> None:
    tracker.stage_started(stage, total_steps=total, params={"optim": {"lr": 3e-3}})
    for step in range(first, last + 1):
        tracker.progress(stage, step, total, {"loss": 5.0 / step, "unheard_of": 1.0})


SCORE: dict[str, object] = {
    "stage": "stage1",
    "task": "prose",
    "split": "dev",
    "metric": "loss",
    "value": 2.0,
    "stderr": 0.1,
    "n": 9,
    "seed": 1,
}


def test_a_killed_run_continues_in_its_own_runs(open_tracker: Callable[..., MlflowTracker], tmp_path: Path) -> None:
    """Killed in stage1 after step 60, its last checkpoint at 50; then again after all is done."""
    report = tmp_path / "report.html"
    report.write_text("<p>")
    first = open_tracker()
    first.stage_finished("documents", uri="", reused=False, seconds=3.0)
    train(first, "stage1", 1, 60, 100)
    first.close(failed=None)  # what a kill leaves: everything so far sent, nothing ended

    second = open_tracker()
    second.stage_finished("documents", uri="", reused=True, seconds=3.0)
    train(second, "stage1", 51, 100, 100)
    second.stage_finished("stage1", uri="", reused=False, seconds=9.0)
    second.scored("stage1", [SCORE])
    second.log_artifacts([report, tmp_path / "absent"])
    second.close()
    third = open_tracker()
    for stage in ("documents", "stage1"):
        third.stage_finished(stage, uri="", reused=True, seconds=9.0)
    third.scored("stage1", [SCORE])
    third.close()

    found = runs(tmp_path)
    assert {name: len(some) for name, some in found.items()} == {"tiny": 1, "documents": 1, "stage1": 1}
    parent, stage1 = found["tiny"][0], found["stage1"][0]
    assert parent.info.status == stage1.info.status == "FINISHED"
    assert stage1.data.tags["mlflow.parentRunId"] == parent.info.run_id and stage1.data.tags["lehr.attempt"] == "2"
    assert stage1.data.tags["git.sha"] == "abc" and stage1.data.params["optim.lr"] == "0.003"
    assert parent.data.params["model.n_layers"] == "4"
    assert steps(tmp_path, stage1, "loss") == list(range(1, 101))  # none lost, none twice
    assert steps(tmp_path, stage1, "score/prose/dev/loss") == [0] == steps(tmp_path, parent, "score/prose/dev/loss")
    assert [p.name for p in (tmp_path / "artifacts").rglob("*") if p.is_file()] == ["report.html"]


@pytest.mark.parametrize("folder", ["a?b", "a%25b%", "a#b ä"])
def test_a_runs_path_may_hold_what_means_something_in_an_address(folder: str, empty_store: Path, tmp_path: Path) -> None:
    root = tmp_path / folder
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    size = (root / "mlflow.db").stat().st_size
    uri = mlflow_schema.sqlite_uri(root / "mlflow.db")
    assert mlflow_store.absent_file(uri) is None and mlflow_schema.sqlite_file(uri) == root / "mlflow.db"
    tracker = MlflowTracker(uri, "lehr", "tiny", (root / "mlflow-artifacts").as_uri(), {"a": 1}, run_key="here")
    (root / "report.html").write_text("<p>")
    tracker.log_artifacts([root / "report.html"])
    tracker.close()
    with sqlite3.connect(root / "mlflow.db") as connection:
        assert connection.execute("select value from params").fetchall() == [("1",)]
    assert (root / "mlflow.db").stat().st_size >= size and [p.name for p in tmp_path.iterdir()] == [folder]
    assert [p.name for p in (root / "mlflow-artifacts").rglob("*") if p.is_file()] == ["report.html"]


def test_no_key_and_no_deleted_experiment_ends_the_tracking(
    open_tracker: Callable[..., MlflowTracker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["c4 (en), 2024+", "c4 [en], 2024+", "../x", "a//b/", "x" * 400, "\x1b[0m\n", "/a", "ö/ü", "."]
    tracker = open_tracker(params=dict.fromkeys(names, 1))
    tracker.stage_started("s", total_steps=2, params=dict.fromkeys(names, 1))
    tracker.progress("s", 1, 2, {**dict.fromkeys(names, 1.0), "loss": 2.0})
    tracker.scored("s", [{**SCORE, "task": name} for name in names])
    tracker.stage_finished("s", uri="", reused=False, seconds=1.0)
    tracker.close()
    found = runs(tmp_path)
    assert found["s"][0].info.status == found["tiny"][0].info.status == "FINISHED"
    said = [r.getMessage() for r in caplog.records if r.name == "lehr.monitoring"]
    assert len(said) == 2 and "'c4 (en), 2024+' is 'c4 _en__ 2024_-" in said[0] and "and 3 more" in said[0]
    assert "'score/c4 (en), 2024+/dev/loss' is" in said[1] and "\x1b" not in "".join(said)  # each name in one line
    assert len(found["tiny"][0].data.params) == len(found["s"][0].data.params) - 1 == len(names)
    assert len(found["s"][0].data.metrics) == len(names) + 1 + 2 * len(names) + 1  # curves, loss, scores, seconds
    assert key_of("score/prose/dev/loss") == "score/prose/dev/loss"

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.delete_experiment(client.get_experiment_by_name("lehr").experiment_id)
    again = open_tracker()
    again.stage_finished("s", uri="", reused=False, seconds=1.0)
    again.close()
    assert "was deleted" in caplog.text and "mlflow experiments restore" in caplog.text


def test_another_recipe_is_another_run_and_a_repeated_stage_another_attempt(
    open_tracker: Callable[..., MlflowTracker], tmp_path: Path
) -> None:
    for key in ("here", "there"):
        tracker = open_tracker(run_key=key)
        train(tracker, "soup", 1, 2, 2)
        tracker.stage_finished("soup", uri="", reused=False, seconds=1.0)
        tracker.close()
    again = open_tracker()
    train(again, "soup", 1, 2, 2)  # its artifact was deleted: the stage works anew
    again.stage_finished("soup", uri="", reused=False, seconds=1.0)
    again.close(failed=True)
    found = runs(tmp_path)
    assert len(found["tiny"]) == 2 and len(found["soup"]) == 3
    assert [r.data.tags["lehr.attempt"] for r in found["soup"]] == ["1", "1", "2"]
    assert {r.info.status for r in found["tiny"]} == {"FAILED", "FINISHED"}


def test_long_curves_are_thinned_and_keep_their_end(open_tracker: Callable[..., MlflowTracker], tmp_path: Path) -> None:
    tracker = open_tracker(max_points=100)
    tracker.stage_started("stage1", total_steps=1005, params={})
    for step in range(1, 1006):
        saved = {"checkpoint_bytes": 1.0} if step in (101, 201, 302) else {}
        tracker.progress("stage1", step, 1005, {"loss": 1.0, "skipped": float(step == 17), **saved})
    tracker.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    tracker.close()
    got = steps(tmp_path, runs(tmp_path)["stage1"][0], "loss")
    assert len(got) <= 101 and got[0] == 11 and got[-1] == 1005
    # A number that only some steps have is recorded wherever it is, and a refused update with its whole step.
    assert steps(tmp_path, runs(tmp_path)["stage1"][0], "checkpoint_bytes") == [101, 201, 302]
    assert 17 in got and steps(tmp_path, runs(tmp_path)["stage1"][0], "skipped")[:2] == [11, 17]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/no/such/mlflow.db"])
def test_a_store_that_is_down_costs_two_lines(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = MlflowTracker(uri, "lehr", "tiny", run_key="k", flush_seconds=0.01, pending=tmp_path / "pending")
    train(tracker, "stage1", 1, 50, 50)
    tracker.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    while not tracker._down:
        time.sleep(0.02)
    tracker.close(timeout_seconds=30)
    assert not any(thread.is_alive() for thread in tracker._threads)
    first, last = [r.getMessage() for r in caplog.records if r.name == "lehr.monitoring"]
    assert uri in first and "is sent when it answers" in first and f"`lehr mlflow {tmp_path} --send`" in last


def test_a_store_that_comes_back_gets_everything(
    open_tracker: Callable[..., MlflowTracker],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, failures = mlflow_store.prepare, iter([1, 1])

    def flaky(uri: str) -> None:
        if next(failures, None):
            raise ConnectionError("not yet")
        good(uri)

    monkeypatch.setattr("lehr.monitoring.mlflow_opening.prepare", flaky)
    tracker = open_tracker(flush_seconds=0.01)
    train(tracker, "stage1", 1, 20, 20)
    tracker.stage_finished("stage1", uri="", reused=False, seconds=1.0)
    while tracker.waiting:
        time.sleep(0.02)
    tracker.close()
    assert steps(tmp_path, runs(tmp_path)["stage1"][0], "loss") == list(range(1, 21))
    assert len([r for r in caplog.records if r.name == "lehr.monitoring"]) == 1


def test_the_step_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port's methods return while the store hangs in its opening; nothing of MLflow runs in the caller's thread."""
    opened, release, threads = threading.Event(), threading.Event(), []

    def hang(uri: str) -> None:
        threads.append(threading.current_thread())
        opened.set()
        release.wait(30)
        raise ConnectionError("given up")

    monkeypatch.setattr("lehr.monitoring.mlflow_opening.prepare", hang)
    tracker = MlflowTracker("sqlite:///x", "lehr", "tiny", run_key="k", flush_seconds=0.01, pending=tmp_path / "pending")
    train(tracker, "stage1", 1, 1, 3)
    assert opened.wait(10)
    tracker.progress("stage1", 2, 3, {"loss": 1.0})  # would deadlock if it waited
    tracker.scored("stage1", [SCORE])
    release.set()
    tracker.close()
    assert threads and threading.current_thread() not in threads


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_fails_before_it_has_made_anything(
    open_tracker: Callable[..., MlflowTracker], tmp_path: Path, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    """It makes no file; where earlier runs have made one it is recorded, as it is on a server."""
    if not there:
        (tmp_path / "mlflow.db").unlink()
    tracker = open_tracker(flush_seconds=0.01)
    tracker.stage_started("documents", total_steps=0, params={})
    tracker.progress("documents", 1, 9, {})
    tracker.close(failed=True)
    assert not any(thread.is_alive() for thread in tracker._threads) and not [
        r for r in caplog.records if r.name == "lehr.monitoring"
    ]
    if there:
        assert {name: [r.info.status for r in some] for name, some in runs(tmp_path).items()} == {
            "tiny": ["FAILED"],
            "documents": ["FAILED"],
        }
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_first_stage_that_takes_long_is_shown_while_it_works(
    open_tracker: Callable[..., MlflowTracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lehr.monitoring.mlflow_tracker.OPEN_SECONDS", 0.0)
    tracker = open_tracker(flush_seconds=0.01)
    tracker.stage_started("documents", total_steps=0, params={})
    while tracker.waiting:
        time.sleep(0.02)
    assert [r.info.status for some in runs(tmp_path).values() for r in some] == ["RUNNING", "RUNNING"]
    tracker.close()


def test_flatten() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": "[1, 2]", "d": "None"}
