"""A new MLflow sqlite file, made whole or not at all, out of the training process's way.

Making the schema takes 7-10 s of migrations. In this process they would fight the training loop for the interpreter
lock, and a kill in the middle would leave half a schema that no later run can open. So another process makes the file
under a temporary name, and it takes its place only when it is complete.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

_CREATE = "import sys; from mlflow.tracking import MlflowClient; MlflowClient(sys.argv[1]).search_experiments(max_results=1)"
_SQLITE = "sqlite:///"
CREATE_SECONDS = 180.0


def set_environment() -> None:
    """Before mlflow is imported: no telemetry, and a dead server is noticed in seconds instead of minutes."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")


def prepare(tracking_uri: str) -> None:
    """Make the sqlite file of `tracking_uri` if it is one and absent. Raises RuntimeError with MLflow's last words."""
    if not tracking_uri.startswith(_SQLITE):
        return
    target = Path(tracking_uri.removeprefix(_SQLITE))
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp").absolute()
    try:
        _create(beside)
        _fold_journal(beside)
        _publish(beside, target)
    finally:
        for leftover in target.parent.glob(f"{beside.name}*"):
            leftover.unlink(missing_ok=True)


def _sweep(target: Path) -> None:
    """Remove what runs that were killed here left behind, and leave alone what another run may be making now."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp*"):
        if time.time() - leftover.stat().st_mtime > 2 * CREATE_SECONDS:
            leftover.unlink(missing_ok=True)


def _create(path: Path) -> None:
    command = [sys.executable, "-P", "-c", _CREATE, f"{_SQLITE}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CREATE_SECONDS, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cannot make {path}: {last}")


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
