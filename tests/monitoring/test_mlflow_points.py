"""Points that are written into a run's own file without MLflow's objects are those that its client writes."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from lehr.monitoring import mlflow_schema, mlflow_store
from lehr.monitoring.mlflow_errors import Gone
from lehr.monitoring.mlflow_keys import Changes
from lehr.monitoring.mlflow_points import Points

FIRST = [("loss", value, 1000 + step, step) for step, value in enumerate((1.0, math.nan, math.inf, -math.inf, -0.0, 5e-324))]
LATER = [("loss", 2.0, 2000, 3), ("loss", 9.0, 1000, 3), ("loss", 3.0, 1001, 1), ("a/b", 1, 1, 0), ("loss", 1.0, 1000, 0)]


def tables(file: Path) -> list[Any]:
    columns = "key, value, timestamp, step, is_nan, run_uuid"
    with closing(sqlite3.connect(file)) as db:
        return [
            db.execute(f"SELECT {columns} FROM {name} ORDER BY {columns}").fetchall() for name in ("metrics", "latest_metrics")
        ]


@pytest.fixture
def stores(tmp_path: Path) -> list[tuple[Any, str]]:
    """Two files with a run of the same ID, and a client of each."""
    from mlflow.tracking import MlflowClient

    found = []
    for name in ("ours", "theirs"):
        mlflow_store.prepare(uri := f"sqlite:///{tmp_path / name}.db")
        client = MlflowClient(uri)
        client.create_run(client.create_experiment("x", str(tmp_path)))
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as db, db:
            db.execute("UPDATE runs SET run_uuid = 'r1'")
            db.execute("UPDATE tags SET run_uuid = 'r1'")
        found.append((client, uri))
    return found


def test_they_are_the_same_rows_however_often_they_are_sent(
    stores: list[tuple[Any, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ours, uri), (theirs, other) = stores
    monkeypatch.setattr(ours, "log_batch", None)  # our way does not go through it
    direct = Points(ours, uri, Changes(print))
    monkeypatch.setattr(mlflow_schema, "is_current", lambda: False)  # with another version of MLflow it is not taken
    indirect = Points(theirs, other, Changes(print))
    for points in (FIRST, LATER, FIRST, LATER):
        direct.log("r1", points)
        indirect.log("r1", points)
        assert tables(tmp_path / "ours.db") == tables(tmp_path / "theirs.db")
    metrics, latest = tables(tmp_path / "ours.db")
    assert len(metrics) == 10 and [row[:4] for row in latest] == [("a/b", 1.0, 1, 0), ("loss", 5e-324, 1005, 5)]


def test_a_run_that_somebody_deleted_is_gone_either_way(stores: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for client, uri in stores:
        client.delete_run("r1")
        with pytest.raises(Gone):
            Points(client, uri, Changes(print)).log("r1", FIRST)
        with pytest.raises(Gone):
            Points(client, uri, Changes(print)).log("r2", FIRST)
        monkeypatch.setattr(mlflow_schema, "is_current", lambda: False)
