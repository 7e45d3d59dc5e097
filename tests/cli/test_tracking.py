"""`lehr mlflow`: an address that MLflow takes, of a file whose paths are right; and what it says where there is none."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.monitoring.mlflow_schema import sqlite_file


def store(folder: Path, made_in: Path) -> Path:
    """A folder with an MLflow file of the least size: one experiment, made in another folder."""
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.execute("CREATE TABLE experiments (artifact_location TEXT)")
        db.execute("INSERT INTO experiments VALUES (?)", ((made_in / "mlflow-artifacts").as_uri(),))
    return folder


@pytest.mark.parametrize("name", ["run", "50% done? #2"])
def test_the_address_is_all_of_standard_output_and_its_paths_are_right(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store(tmp_path / name, tmp_path / "before")
    monkeypatch.chdir(tmp_path)
    assert main(["mlflow", name]) == 0
    said = capsys.readouterr()
    [address] = said.out.splitlines()
    assert address.startswith("sqlite:////") and sqlite_file(address) == folder / "mlflow.db"
    assert str(tmp_path / "before") in said.err
    with sqlite3.connect(folder / "mlflow.db") as db:
        assert db.execute("SELECT * FROM experiments").fetchall() == [((folder / "mlflow-artifacts").as_uri(),)]
    assert main(["mlflow", str(folder)]) == 0
    assert capsys.readouterr() == (f"{address}\n", "")


def test_of_a_run_in_an_object_store_it_is_this_machines_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path))
    assert main(["mlflow", "s3://bucket/runs/mine"]) == 2
    place = capsys.readouterr().err.split("error: ")[1].split(": there is no")[0]
    shutil.move(store(tmp_path / "made", Path(place)), place)
    assert main(["mlflow", "s3://bucket/runs/mine"]) == 0
    assert sqlite_file(capsys.readouterr().out.strip()) == Path(place) / "mlflow.db"


def test_where_there_is_no_file_or_a_damaged_one_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mlflow", str(tmp_path)]) == 2
    (tmp_path / "mlflow.db").write_text("no database " * 500)
    assert main(["mlflow", str(tmp_path)]) == 2
    absent, damaged = capsys.readouterr().err.splitlines()
    assert "there is no mlflow.db here" in absent and "--no-mlflow" in absent
    assert "cannot be put right" in damaged and "not a database" in damaged


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store(tmp_path / "run", tmp_path / "before")
    (folder / "mlflow.db").chmod(0o400)
    assert main(["mlflow", str(folder)]) == 2
    assert "Make the folder writable" in capsys.readouterr().err
