"""What a new MLflow sqlite file holds: the result of MLflow's own migrations, kept as SQL for the version that Lehr pins.

MLflow itself runs all of its migrations, nearly seventy, in four seconds of processor time; the SQL that they end with runs in
milliseconds. `python -m lehr.monitoring.mlflow_schema` writes it anew after a change of MLflow's pin.
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
SECONDS = 180.0  # the longest that migrations may take
_MIGRATE = "import sys; from mlflow.tracking import MlflowClient; MlflowClient(sys.argv[1]).search_experiments(max_results=1)"
_HEAD = "-- The sqlite schema of MLflow "
SQLITE = "sqlite:///"
FILE_NAME = "mlflow.db"  # of a run's own, in its folder


def sqlite_uri(path: Path) -> str:
    """The tracking URI of a file, whose path may hold what means something in an address."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of a sqlite tracking URI; None for any other."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(unquote(tracking_uri.removeprefix(SQLITE).partition("?")[0]))


def create(path: Path) -> None:
    """Make the new file `path`: from the SQL if that is of the installed MLflow, else by its migrations, in a process of their
    own. Raises RuntimeError with MLflow's last words, sqlite3.Error for a disk that takes no file.
    """
    text = FILE.read_text(encoding="utf-8") if FILE.is_file() else ""
    if not text.startswith(f"{_HEAD}{installed()}:"):
        migrate(path)
        return
    connection = sqlite3.connect(path)
    try:
        connection.executescript(text)  # one transaction
    finally:
        connection.close()


def migrate(path: Path) -> None:
    """Let MLflow make the file. Raises RuntimeError with its last words."""
    command = [sys.executable, "-P", "-c", _MIGRATE, sqlite_uri(path)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"cannot make {path}: {last}")


def installed() -> str:
    """The version of MLflow's client here, or nothing."""
    for name in ("mlflow-skinny", "mlflow"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def dump(path: Path) -> str:
    """All that stands in a file as SQL, without the experiment `Default`, which MLflow makes in every store that has none."""
    connection = sqlite3.connect(path)
    try:
        lines = [line for line in connection.iterdump() if not line.startswith('INSERT INTO "experiments"')]
    finally:
        connection.close()
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write FILE for the MLflow that is installed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        migrate(path)
        text = dump(path)
    FILE.write_text(f"{_HEAD}{installed()}: what its migrations end with. See mlflow_schema.py.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
