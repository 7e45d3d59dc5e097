"""A run's own MLflow file after its folder was moved or copied.

MLflow stores the location of artifacts as absolute addresses, `file:///place/run/mlflow-artifacts/…`, and makes relative ones
absolute. After a move they point nowhere, and after a copy into the original run. So the addresses are corrected whenever the
file is opened, before MLflow reads it: everything that was in the old folder is in the file's current folder.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lehr.monitoring.mlflow_schema import FILE_NAME, sqlite_uri

ARTIFACTS = "mlflow-artifacts"  # a folder beside the file
_WAIT_SECONDS = 30.0  # for another process that is writing
# Columns with addresses, one of them in JSON, where the address of a file needs no escaping.
_ADDRESSES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("datasets", "dataset_source", '{"uri": "'),
)
# Columns with plain paths: the tag in which Lehr records an artifact's location.
_PATHS = (
    ("tags", "value", "key"),
    ("logged_model_tags", "tag_value", "tag_key"),
    ("model_version_tags", "value", "key"),
)
_PATH_TAG = "artifact.uri"


def artifacts_of(folder: Path) -> str:
    """The address of the folder in which a run in `folder` keeps MLflow's artifacts."""
    return (folder.absolute() / ARTIFACTS).as_uri()


def tracking_uri_of(folder: Path) -> str:
    """The tracking URI of a run's own MLflow file."""
    return sqlite_uri(folder.absolute() / FILE_NAME)


def put_right(file: Path) -> list[Path]:
    """Change every address in `file` that points into a former folder of the file to its current folder. Returns the former
    folders, none if nothing had to be changed. Raises sqlite3.Error for a file that is damaged, cannot be written, or stays
    locked by another process for half a minute."""
    here = file.absolute().parent
    with closing(sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
        if not (before := _elsewhere(db, here)):
            return []  # checked without a lock first: a server may be reading
        db.execute("BEGIN IMMEDIATE")
        try:
            # Read again under the lock: another process may have corrected the file while this one waited.
            for old in (before := _elsewhere(db, here)):
                _move(db, old, here)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
    return before


def _elsewhere(db: sqlite3.Connection, here: Path) -> list[Path]:
    """The folders, other than `here`, in which experiments made by Lehr keep their artifacts."""
    found = db.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:///%'").fetchall()
    places = [Path(unquote(urlsplit(location).path)) for (location,) in found]
    return [place.parent for place in places if place.name == ARTIFACTS and place.parent != here]


def _move(db: sqlite3.Connection, old: Path, new: Path) -> None:
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}  # older MLflows have fewer
    for table, column, before in _ADDRESSES:
        if table in there:
            _replace(db, table, column, f"{before}{old.as_uri()}/", f"{before}{new.as_uri()}/")
    for table, column, key in _PATHS:
        if table in there:
            _replace(db, table, column, f"{old}/", f"{new}/", f"{key} = '{_PATH_TAG}' AND")


def _replace(db: sqlite3.Connection, table: str, column: str, old: str, new: str, only: str = "") -> None:
    """Replace a prefix of a column's values. Names of tables and columns come from this module only; values are bound."""
    begins = f"{only} substr({column}, 1, length(:old)) = :old"
    db.execute(
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) WHERE {begins}", {"old": old, "new": new}
    )
