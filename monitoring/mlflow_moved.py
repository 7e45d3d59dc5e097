"""A run's own MLflow file after its folder was moved or copied.

MLflow keeps where artifacts lie as whole addresses, `file:///place/run/mlflow-artifacts/…`, and makes whole ones of what it is
given as a part. In a folder that is somewhere else they lead nowhere, or into the run that was copied. So whoever opens the
file puts them right before MLflow reads it: all that lay in the old folder lies in the one that the file is in now.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lehr.monitoring.mlflow_schema import FILE_NAME, sqlite_uri

ARTIFACTS = "mlflow-artifacts"  # beside the file
_WAIT_SECONDS = 30.0  # for another process that writes
# Addresses of files, and addresses in JSON: a file's address needs no quoting there.
_ADDRESSES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("datasets", "dataset_source", '{"uri": "'),
)
# Plain paths: the tag in which Lehr says where an artifact is.
_PATHS = (
    ("tags", "value", "key"),
    ("logged_model_tags", "tag_value", "tag_key"),
    ("model_version_tags", "value", "key"),
)
_PATH_TAG = "artifact.uri"


def artifacts_of(folder: Path) -> str:
    """Where a run in `folder` keeps what it gives to MLflow, as an address."""
    return (folder.absolute() / ARTIFACTS).as_uri()


def tracking_uri_of(folder: Path) -> str:
    """The address of a run's own MLflow file."""
    return sqlite_uri(folder.absolute() / FILE_NAME)


def put_right(file: Path) -> list[Path]:
    """Make every address in `file` that leads into the folder where it was made lead into the folder where it is. Returns the
    folders that it was in before; none where nothing was to be done. Raises sqlite3.Error for a file that is damaged, cannot be
    written or is held by another process for half a minute."""
    here = file.absolute().parent
    with closing(sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
        if not (before := _elsewhere(db, here)):
            return []  # without a lock: a server may be reading
        db.execute("BEGIN IMMEDIATE")
        try:
            for old in (before := _elsewhere(db, here)):
                _move(db, old, here)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
    return before


def _elsewhere(db: sqlite3.Connection, here: Path) -> list[Path]:
    """Other folders that experiments of Lehr's keep their artifacts in."""
    found = db.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:///%'").fetchall()
    places = [Path(unquote(urlsplit(location).path)) for (location,) in found]
    return [place.parent for place in places if place.name == ARTIFACTS and place.parent != here]


def _move(db: sqlite3.Connection, old: Path, new: Path) -> None:
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}  # an older MLflow has fewer
    for table, column, before in _ADDRESSES:
        if table in there:
            _replace(db, table, column, f"{before}{old.as_uri()}/", f"{before}{new.as_uri()}/")
    for table, column, key in _PATHS:
        if table in there:
            _replace(db, table, column, f"{old}/", f"{new}/", f"{key} = '{_PATH_TAG}' AND")


def _replace(db: sqlite3.Connection, table: str, column: str, old: str, new: str, only: str = "") -> None:
    """The beginning of a column's values. The names are this module's own; the values are bound."""
    begins = f"{only} substr({column}, 1, length(:old)) = :old"
    db.execute(
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) WHERE {begins}", {"old": old, "new": new}
    )
