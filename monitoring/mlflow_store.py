"""A new MLflow sqlite file, made whole or not at all.

A kill in the middle of its making would leave half a schema that no later run can open. So it is made under a temporary
name, and takes its place only when it is complete.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from contextlib import suppress
from pathlib import Path

from lehr.monitoring import mlflow_schema


def set_environment() -> None:
    """Before mlflow is imported: no telemetry, no lines on the run's terminal that show the server's address with a password in
    it, and a dead server is noticed in seconds instead of minutes."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")


def absent_file(tracking_uri: str) -> Path | None:
    """The sqlite file that `tracking_uri` names, if there is none yet; None for a file that is there, and for any server."""
    path = mlflow_schema.sqlite_file(tracking_uri)
    return None if path is None or path.exists() else path


def prepare(tracking_uri: str) -> None:
    """Make the sqlite file of `tracking_uri` if it is one and absent. Raises OSError and what `mlflow_schema.create` raises."""
    target = absent_file(tracking_uri)
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp").absolute()  # a pod's processes share their numbers
    try:
        mlflow_schema.create(beside)
        _fold_journal(beside)
        _publish(beside, target)
    finally:
        for leftover in target.parent.glob(f"{beside.name}*"):
            leftover.unlink(missing_ok=True)


def tidy(tracking_uri: str) -> None:
    """Remove the empty folders that MLflow makes of a sqlite file's address, where that is not spelt as its path."""
    file = mlflow_schema.sqlite_file(tracking_uri)
    spelt = Path(tracking_uri.removeprefix(mlflow_schema.SQLITE))
    if file is not None and spelt != file:
        with suppress(OSError):  # there is none, or it holds something
            os.removedirs(spelt.parent)


def _sweep(target: Path) -> None:
    """Remove what runs that were killed here left behind, and leave alone what another run may be making now."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp*"):
        with suppress(FileNotFoundError):  # the other run has just finished with it
            if time.time() - leftover.stat().st_mtime > 2 * mlflow_schema.SECONDS:
                leftover.unlink()


def _fold_journal(path: Path) -> None:
    """Bring what stands in a write-ahead log into the file: only the file is moved."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _publish(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)  # unlike a rename, never replaces a file that another run has just put there
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not target.exists():
            os.replace(beside, target)
