"""A new MLflow sqlite file: what its migrations would make, whole or absent."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring import mlflow_schema, mlflow_store


def contents(path: Path) -> tuple[dict[tuple[str, str], Any], dict[str, list[tuple[Any, ...]]]]:
    """What MLflow finds in a new file: every table, index and trigger, and every row but for times. A table's columns stand in
    order; its constraints come in another order each time that they are migrated."""
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    with sqlite3.connect(path) as db:
        objects: dict[tuple[str, str], Any] = {}
        rows = {}
        for kind, name, sql in db.execute("select type, name, sql from sqlite_master").fetchall():
            objects[kind, name] = sql
            if kind == "table":
                columns = db.execute(f'pragma table_xinfo("{name}")').fetchall()
                objects[kind, name] = columns, sorted(line.strip(" \t,") for line in sql.splitlines())
                rows[name] = db.execute(f'select * from "{name}"').fetchall()
    [default] = rows["experiments"]
    rows["experiments"] = [tuple(value for value in default if not (isinstance(value, int) and value > 1e12))]
    return objects, {name: found for name, found in rows.items() if found}


@pytest.mark.long
def test_a_new_file_is_the_one_that_the_migrations_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails after a change of MLflow's pin: python -m lehr.monitoring.mlflow_schema."""
    assert mlflow_schema.installed() in mlflow_schema.FILE.read_text(encoding="utf-8").splitlines()[0]
    mlflow_store.prepare(f"sqlite:///{tmp_path}/quick.db")
    monkeypatch.setattr(mlflow_schema, "installed", lambda: "3.0.1")  # a version that the SQL is not of: MLflow's own way
    mlflow_store.prepare(f"sqlite:///{tmp_path}/slow.db")
    quick, slow = contents(tmp_path / "quick.db"), contents(tmp_path / "slow.db")
    assert len(quick[0]) > 100 and set(quick[1]) == {"alembic_version", "experiments", "workspaces"}
    assert quick == slow


def test_the_address_of_a_server_with_its_password_is_not_put_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    client = TrackingServiceClient("http://somebody:planted@127.0.0.1:9")
    monkeypatch.setattr(type(client.store), "get_run", lambda self, run_id: MagicMock())
    client._log_url("1")
    assert "planted" in capsys.readouterr().out  # what MLflow does at the end of each run
    mlflow_store.set_environment()
    client._log_url("1")
    assert capsys.readouterr().out == ""


KILLED = """
import os, signal, sys
from lehr.monitoring import mlflow_store
mlflow_store._publish = lambda beside, target: os.kill(os.getpid(), signal.SIGKILL)
mlflow_store.prepare(sys.argv[1])
"""


def test_a_file_is_whole_or_absent_after_kill_9_and_where_several_make_it(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "runs" / "mlflow.db"
    done = subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{target}"], cwd=repository, check=False)
    [left] = target.parent.iterdir()
    assert done.returncode == -signal.SIGKILL and left.name.endswith(".tmp")
    os.utime(left, (0, 0))  # nobody can be at work on it any more
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(mlflow_store.prepare, [f"sqlite:///{target}"] * 4))
    assert list(target.parent.iterdir()) == [target]
    with sqlite3.connect(target) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert db.execute("select count(*) from alembic_version").fetchone() == (1,)


def test_a_new_file_is_made_quietly_and_without_mlflow(repository: Path, tmp_path: Path) -> None:
    code = "import sys; from lehr.monitoring.mlflow_store import prepare; prepare(sys.argv[1]); print('mlflow' in sys.modules)"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/new/mlflow.db"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["mlflow.db"]
