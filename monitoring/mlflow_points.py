"""Metrics on their way into MLflow: in batches, none of which is lost for one value that MLflow refuses.

Sending the same points again changes nothing: MLflow's key of a point is its run, name, step, time and value.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lehr.monitoring import mlflow_schema
from lehr.monitoring.mlflow_errors import Gone, brief, code_of, refused
from lehr.monitoring.mlflow_keys import Changes

Point = tuple[str, object, int, int]  # name, value, Unix milliseconds, step
_Row = tuple[str, float, int, int]  # the same, as MLflow takes it
_BATCH = 900  # metrics in one call; MLflow's limit is 1000
_WAIT_SECONDS = 20.0  # for another writer, as MLflow itself waits
_LARGEST = sys.float_info.max  # stands for infinity, as in MLflow's store
_REFUSALS = 3  # of ordinary values, after which a key is not sent any more: it is the name that MLflow does not take
LAST_STEP = 2**63 - 1
_LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
_GONE = "RESOURCE_DOES_NOT_EXIST"

# What MLflow's store does with each metric (SqlAlchemyStore._log_metrics and _update_latest_metrics_if_necessary).
_INSERT = "INSERT OR IGNORE INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
_LATEST = """INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key, run_uuid) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)"""


class Points:
    """Writes the metrics of the runs of one store."""

    def __init__(self, client: Any, tracking_uri: str, changes: Changes) -> None:
        self._client, self._changes = client, changes
        self._refusals: Counter[str] = Counter()  # of ordinary values, by key
        # The statements above, and what a server is sent, belong to one version of MLflow.
        current = mlflow_schema.is_current()
        self._file = mlflow_schema.sqlite_file(tracking_uri) if current else None
        self._rest = current and tracking_uri.startswith(("http://", "https://"))

    def log(self, run_id: str, points: Sequence[Point], of: Mapping[str, object] | None = None) -> None:
        """`of`: the logged model and the dataset that the points are about, as arguments of MLflow's Metric. Raises Gone if
        the run was deleted, and MLflow's errors if the store does not answer; all may be sent again then."""
        rows = [row for point in points if (row := self._row(*point))]
        for first in range(0, len(rows), _BATCH):
            batch = rows[first : first + _BATCH]
            if self._file is not None and not of:
                _insert(self._file, run_id, batch)
            else:
                self._send(run_id, batch, of or {})

    def _row(self, name: str, value: object, at: int, step: int) -> _Row | None:
        if not -LAST_STEP <= step <= LAST_STEP:
            self._changes.refused(name, f"at step {step:.3g} is left out: MLflow's steps have 64 bits")
            return None
        known = self._changes.number(name, value)
        return None if known is None else (self._changes.metric(name), known, at, step)

    def _send(self, run_id: str, rows: Sequence[_Row], of: Mapping[str, object], whole: bool = True) -> None:
        rows = [row for row in rows if self._refusals[row[0]] < _REFUSALS]
        try:
            self._log_batch(run_id, rows, of)
        except Exception as error:
            if not refused(error) and code_of(error) != _GONE:
                raise
            if whole:
                self._require(run_id)
            if len(rows) == 1:
                key, value = rows[0][:2]
                self._refusals[key] += math.isfinite(value)
                self._changes.refused(key, f"is left out: {brief(error)}")
                return
            # One value that MLflow does not take refuses the whole batch: the halves find it.
            self._send(run_id, rows[: len(rows) // 2], of, whole=False)
            self._send(run_id, rows[len(rows) // 2 :], of, whole=False)

    def _log_batch(self, run_id: str, rows: Sequence[_Row], of: Mapping[str, object]) -> None:
        """A server gets the same request as from MLflow's client, which takes ten times as long to make it, with a message for
        each value."""
        if self._rest and not of:
            from mlflow.utils.rest_utils import http_request, verify_rest_response

            metrics = [{"key": k, "value": _in_json(v), "timestamp": at, "step": step} for k, v, at, step in rows]
            who = self._client._tracking_client.store.get_host_creds()
            answer = http_request(who, _LOG_BATCH, "POST", json={"run_id": run_id, "metrics": metrics})
            verify_rest_response(answer, _LOG_BATCH)
            return
        from mlflow.entities import Metric

        self._client.log_batch(run_id, metrics=[Metric(*row, **of) for row in rows])

    def _require(self, run_id: str) -> None:
        """Raises Gone if the run does not exist any more."""
        try:
            run = self._client.get_run(run_id)
        except Exception as error:
            if code_of(error) != _GONE:
                raise
            raise Gone(f"the run {run_id} does not exist any more") from error
        if run.info.lifecycle_stage != "active":
            raise Gone(f"the run {run_id} was deleted")


def _insert(file: Path, run_id: str, rows: Sequence[_Row]) -> None:
    """Write into a run's own file what MLflow's store would: that takes its objects 0.1 to 0.6 ms of processor time a value,
    more than a training step may cost. Raises Gone if the run was deleted, and sqlite3.Error."""
    # In the order of the table's key: neighbours go into one page.
    ordered = sorted((key, _stored(value), at, step, value != value, run_id) for key, value, at, step in rows)
    newest: dict[str, tuple[str, float, int, int, bool, str]] = {}
    for row in ordered:
        known = newest.setdefault(row[0], row)
        if (row[3], row[2], row[1]) > (known[3], known[2], known[1]):
            newest[row[0]] = row
    with closing(sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
            if found != ("active",):
                raise Gone(f"the run {run_id} was deleted")
            db.executemany(_INSERT, ordered)
            db.executemany(_LATEST, newest.values())
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def _in_json(value: float) -> float | str:
    """A value as protobuf's JSON has it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _stored(value: float) -> float:
    """A value in MLflow's tables, which mark NaN beside it."""
    if math.isfinite(value):
        return value
    return 0.0 if math.isnan(value) else math.copysign(_LARGEST, value)
