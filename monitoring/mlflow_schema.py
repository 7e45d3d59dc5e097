"""The content of a new MLflow sqlite file: the result of MLflow's own migrations, stored as SQL for the version that Lehr pins.

MLflow itself runs all its migrations, nearly seventy, in four seconds of processor time; the resulting SQL runs in
milliseconds. `python -m lehr.monitoring.mlflow_schema` regenerates it after a change of MLflow's pin.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote

FILE = Path(__file__).with_suffix(".sql")
SECONDS = 180.0  # the most that the migrations may take
_MIGRATE = "import sys; from mlflow.tracking import MlflowClient; MlflowClient(sys.argv[1]).search_experiments(max_results=1)"
_HEAD = "-- The sqlite schema of MLflow "
SQLITE = "sqlite:///"
FILE_NAME = "mlflow.db"  # the run's own, in its folder


def sqlite_uri(path: Path) -> str:
    """The tracking URI of a file; characters of the path with a meaning in addresses are escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of a sqlite tracking URI; None for any other."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(unquote(tracking_uri.removeprefix(SQLITE).partition("?")[0]))


def create(path: Path) -> None:
    """Create the file `path`: from the SQL if that belongs to the installed MLflow, otherwise by MLflow's migrations in a
    separate process. Raises RuntimeError with MLflow's last line of output, and sqlite3.Error if the disk does not take the
    file.
    """
    if not is_current():
        migrate(path)
        return
    text = FILE.read_text(encoding="utf-8")
    connection = sqlite3.connect(path)
    try:
        connection.executescript(text)  # one transaction
    finally:
        connection.close()


def is_current() -> bool:
    """Whether FILE is the schema of the installed MLflow."""
    return FILE.is_file() and FILE.read_text(encoding="utf-8")[:200].startswith(f"{_HEAD}{installed()}:")


def migrate(path: Path) -> None:
    """Create the file by MLflow's migrations. Raises RuntimeError with the last line of its output."""
    # In a separate process: it can be ended after SECONDS, and its output stays off the run's terminal. -P: Python must not
    # import modules from the current folder.
    command = [sys.executable, "-P", "-c", _MIGRATE, sqlite_uri(path)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cannot make {path}: {last}")


def installed() -> str:
    """The version of the installed MLflow client, or empty."""
    for name in ("mlflow-skinny", "mlflow"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def dump(path: Path) -> str:
    """The content of a file as SQL, without the experiment `Default`, which MLflow creates in every store without
    experiments."""
    connection = sqlite3.connect(path)
    try:
        lines = [line for line in connection.iterdump() if not line.startswith('INSERT INTO "experiments"')]
    finally:
        connection.close()
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write FILE for the installed MLflow."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        migrate(path)
        text = dump(path)
    FILE.write_text(f"{_HEAD}{installed()}: what its migrations end with. See mlflow_schema.py.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
