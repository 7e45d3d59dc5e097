"""Creates a new MLflow sqlite file completely or not at all.

A kill during its creation would leave half a schema, which no later run could open. So the file is made under a temporary name
and gets its own name only when it is complete.
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
    """Before mlflow is imported: no telemetry; no lines on the terminal with the server's address, which may contain a
    password; a dead server is noticed in seconds instead of minutes; and no request is repeated by the client itself, which
    would create a run twice if only the first answer was lost."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")


def absent_file(tracking_uri: str) -> Path | None:
    """The sqlite file of `tracking_uri` if it does not exist yet; None for an existing file, and for any server."""
    path = mlflow_schema.sqlite_file(tracking_uri)
    return None if path is None or path.exists() else path


def prepare(tracking_uri: str) -> None:
    """Create the sqlite file of `tracking_uri` if it does not exist. Raises OSError, and what `mlflow_schema.create` raises."""
    target = absent_file(tracking_uri)
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp").absolute()  # process IDs repeat in other pods
    try:
        mlflow_schema.create(beside)
        _fold_journal(beside)
        _publish(beside, target)
    finally:
        for leftover in target.parent.glob(f"{beside.name}*"):
            leftover.unlink(missing_ok=True)


def tidy(tracking_uri: str) -> None:
    """Remove the empty folders that MLflow creates for a sqlite file whose escaped address differs from its path."""
    file = mlflow_schema.sqlite_file(tracking_uri)
    spelt = Path(tracking_uri.removeprefix(mlflow_schema.SQLITE))
    if file is not None and spelt != file:
        with suppress(OSError):  # the folder does not exist, or is not empty
            os.removedirs(spelt.parent)


def _sweep(target: Path) -> None:
    """Remove temporary files of killed runs, but not those that another run may be writing now."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp*"):
        with suppress(FileNotFoundError):  # the other run has just removed it
            if time.time() - leftover.stat().st_mtime > 2 * mlflow_schema.SECONDS:
                leftover.unlink()


def _fold_journal(path: Path) -> None:
    """Write a write-ahead log back into the file: only the file itself is moved."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _publish(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)  # unlike a rename, never replaces a file that another run has just created
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not target.exists():
            os.replace(beside, target)
