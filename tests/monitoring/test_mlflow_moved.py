"""A run's folder that was moved or copied: its artifacts are found by MLflow's own client, in that folder and in no other."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring.mlflow_moved import put_right, tracking_uri_of

sys.path.insert(0, str(Path(__file__).parent))
import tracked


def found(uri: str, into: Path) -> list[str]:
    """What MLflow finds by the store's address alone, in files that it puts into the folder `into`; it writes there, too."""
    import mlflow.artifacts
    import mlflow.data
    from mlflow.tracking import MlflowClient

    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lehr").experiment_id
    [parent] = client.search_runs([experiment], "tags.`lehr.role` = 'recipe'")
    report = Path(client.download_artifacts(parent.info.run_id, "report.html", str(into))).read_text()
    files = sorted(
        path.name for path in Path(mlflow.artifacts.download_artifacts("models:/chat/1", dst_path=str(into / "m"))).iterdir()
    )
    [model] = client.search_logged_models([experiment], "name = 'export'")
    listed = sorted(file.path for file in client.list_logged_model_artifacts(model.model_id))
    source = mlflow.data.get_source(client.get_run(parent.info.run_id).inputs.dataset_inputs[0]).load()
    client.log_text(parent.info.run_id, "after the move", "more.txt")
    return [report, str(files), str(listed), source]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], list[str]]]:
    """`found` for the run in a folder, asked from another one, by a client that has met none of its runs before."""
    import mlflow

    into, before = tmp_path / "into", mlflow.get_tracking_uri()
    into.mkdir()
    monkeypatch.chdir(into)

    def ask(root: Path) -> list[str]:
        _another_process()
        return found(tracking_uri_of(root), into)

    yield ask
    _another_process()
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tracked.new_store(tmp_path_factory.mktemp("mlflow") / "mlflow.db")


def made_in(root: Path, empty_store: Path) -> Path:
    """A finished run with a report, a registered model, and a dataset that is another run's."""
    tracked.store(empty_store, root)
    made = tracked.run_of(root)
    (root / "report.html").write_text(f"<p>made in {root.name}")
    tracking = tracked.tracker(root)
    tracking.log_artifacts([root / "report.html"])
    tracked.follow(tracking, made, registered="chat")
    return root


def _another_process() -> None:
    """MLflow's client remembers where it met a run, as long as its process lives."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()


def addresses(root: Path) -> str:
    """All that stands in the file, as text."""
    with sqlite3.connect(root / "mlflow.db") as db:
        return "\n".join(db.iterdump())


@pytest.mark.parametrize("name", ["plain", "two words", "50%25 done?", "a#b ä'\""])
def test_a_copied_run_is_found_where_it_is_now(
    name: str, empty_store: Path, tmp_path: Path, asked: Callable[[Path], list[str]]
) -> None:
    first = made_in(tmp_path / f"old {name}", empty_store)
    second = tmp_path / "elsewhere" / f"new {name}"
    second.parent.mkdir()
    subprocess.run(["cp", "-r", str(first), str(second)], check=True)
    before = addresses(first)
    shutil.move(first, tmp_path / "gone")
    with pytest.raises(Exception, match=r"No such|not exist|report\.html"):  # which is what this is about
        asked(second)
    assert put_right(second / "mlflow.db") == [first]
    report, files, listed, source = asked(second)
    assert report == f"<p>made in old {name}" and files == listed == "['README.md', 'config.json']"
    assert source == str(second / "artifacts" / "documents-0123456789ab")
    assert sorted(path.name for path in second.glob("mlflow-artifacts/*/artifacts/*.txt")) == ["more.txt"]
    assert str(first) not in addresses(second) and first.as_uri() not in addresses(second)
    assert put_right(second / "mlflow.db") == [] and not first.exists()
    shutil.move(tmp_path / "gone", first)
    assert addresses(first) == before and put_right(first / "mlflow.db") == []
    assert asked(first)[0] == report  # nobody touched the one that was copied


def test_a_moved_run_that_goes_on_is_put_right_and_is_no_second_run(
    empty_store: Path, tmp_path: Path, asked: Callable[[Path], list[str]]
) -> None:
    first = made_in(tmp_path / "first", empty_store)
    asked(first)
    _another_process()
    second = Path(shutil.move(first, tmp_path / "second"))
    tracking = tracked.tracker(second)
    (second / "scores.json").write_text("[]")
    tracking.log_artifacts([second / "scores.json"])
    tracking.close(timeout_seconds=tracked.PATIENCE_SECONDS)
    [folder] = second.glob("mlflow-artifacts/*/artifacts/scores.json")
    assert (folder.parent / "report.html").is_file() and not first.exists()
    assert len(tracked.runs(second)) == 8  # `runs` sees to it that each is there once
    assert asked(second)[0] == "<p>made in first"


def test_what_lies_in_other_places_stays_there(empty_store: Path, tmp_path: Path) -> None:
    """Another run's artifact, one whose folder's name begins alike, a store's address, and an experiment that is not ours."""
    first = made_in(tmp_path / "run", empty_store)
    others = [str(tmp_path / "run-2" / "artifacts" / "stage1-1"), "s3://bucket/run/artifacts/x", str(tmp_path / "base")]
    mlflow = tracked.client(first)
    [stage] = [run for name, run in tracked.runs(first).items() if name == "stage1"]
    kept = [mlflow.create_run(stage.info.experiment_id, tags={"artifact.uri": uri}).info.run_id for uri in others]
    theirs = mlflow.create_experiment("theirs", (tmp_path / "run" / "mine").as_uri())
    second = Path(shutil.move(first, tmp_path / "moved"))
    put_right(second / "mlflow.db")
    mlflow = tracked.client(second)
    assert [mlflow.get_run(run).data.tags["artifact.uri"] for run in kept] == others
    assert mlflow.get_run(stage.info.run_id).data.tags["artifact.uri"].startswith(f"{second}/artifacts/")
    # An experiment that somebody added inside the folder moved with it.
    assert mlflow.get_experiment(theirs).artifact_location == (second / "mine").as_uri()


def test_of_two_that_put_a_file_right_at_once_both_do_and_a_failure_changes_nothing(
    empty_store: Path, tmp_path: Path, asked: Callable[[Path], list[str]]
) -> None:
    second = Path(shutil.move(made_in(tmp_path / "first", empty_store), tmp_path / "second"))
    code = "import sys, pathlib; from lehr.monitoring.mlflow_moved import put_right; put_right(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(second / "mlflow.db")]
    both = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert asked(second)[0] == "<p>made in first"

    third = Path(shutil.move(second, tmp_path / "third"))
    with sqlite3.connect(third / "mlflow.db") as db:
        db.execute("CREATE TRIGGER no BEFORE UPDATE ON datasets BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = addresses(third)
    with pytest.raises(sqlite3.Error, match="no"):
        put_right(third / "mlflow.db")
    assert addresses(third) == before


def test_a_file_of_an_older_mlflow_and_one_that_is_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        db.execute("CREATE TABLE experiments (artifact_location TEXT)")
        db.execute("INSERT INTO experiments VALUES ('file:///gone/mlflow-artifacts'), (NULL), ('./mlruns/0')")
    assert put_right(tmp_path / "mlflow.db") == [Path("/gone")]
    (tmp_path / "bad.db").write_text("no database, but long enough to be looked at " * 50)
    with pytest.raises(sqlite3.Error):
        put_right(tmp_path / "bad.db")
