"""The record `attempts/NAME.json`: which attempt at NAME is the newest, which saves it may resume from, and what is published.

It is the only pointer: objects that no record names do not count, however complete they are. So one conditional put of the
record makes an artifact or a save visible, and a superseded attempt, whose version is out of date, makes nothing visible.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from lehr.artifacts.fencing import attempt
from lehr.artifacts.incidents import described, ended
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.ports import Conflict, Objects


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(_Said):
    """One file of a save: the key of its object, its size in bytes and its SHA-256."""

    object: str
    bytes: int
    sha256: str


class Published(_Said):
    """A complete artifact: its name, the key of its folder, and its digest. A work name and the name of the artifact it ends in
    may differ (see lehr.pipeline.run); the record of the latter then points there too."""

    name: str
    folder: str
    digest: str


class Record(_Said):
    """The first five fields identify the newest attempt; `kept` holds the newest save by path in the scratch. `change` counts
    the writes of one attempt, so that no two values, and so no two ETags, are equal. `ended` is this attempt's exit reason,
    `untold` the lines about older attempts that no save holds yet."""

    attempt: int
    token: str
    host: str
    process: int
    began: str
    change: int = 0
    kept: dict[str, StoredFile] = {}
    artifact: Published | None = None
    ended: str = ""
    untold: list[str] = []


def key(name: str) -> str:
    return f"attempts/{name}.json"


def read(objects: Objects, name: str) -> tuple[Record, str] | None:
    """The record of `name` and its version, or None. Raises UserError if it cannot be parsed."""
    found = objects.get(key(name))
    if found is None:
        return None
    try:
        return Record.model_validate_json(found[0]), found[1]
    except ValidationError as error:
        raise UserError(
            f"this is not a record of an attempt ({validators_words(error.errors()[0]['msg'])})",
            where=f"{objects.root}/{key(name)}",
            remedy="delete it, and the stage is made anew; or choose another --out",
        ) from error


def write(objects: Objects, name: str, record: Record, version: str | None) -> str:
    """Replace the record of that version; returns the new version. Raises Conflict if the present version is another.

    A put whose answer was lost is retried and then conflicts with itself, which is not an error.
    """
    value = record.model_dump_json()
    try:
        return objects.put(key(name), value, version)
    except Conflict:
        found = objects.get(key(name))
        if found is None or found[0] != value:
            raise
        return found[1]


def begin(objects: Objects, name: str) -> tuple[Record, str]:
    """Take the next attempt number of `name` and the saves of earlier attempts, which are fenced off from now on."""
    while True:
        found = read(objects, name)
        before, version = found or (None, None)
        who = attempt(before.attempt + 1 if before else 1)
        record = Record.model_validate(who)
        if before is not None:
            about = ended(described(before.model_dump()), before.ended, record.attempt, lives=None)
            untold = [] if published(before) else [*before.untold, about]
            record = record.model_copy(update={"kept": before.kept, "artifact": before.artifact, "untold": untold})
        try:
            return record, write(objects, name, record, version)
        except Conflict:
            continue  # another attempt began, or published a save, at the same moment


def published(record: Record) -> bool:
    """Whether this attempt itself has published. `artifact` may also be an earlier attempt's, made under another layout."""
    return record.artifact is not None and record.artifact.folder.endswith(f"/{record.attempt}")


def point(objects: Objects, record: Record) -> None:
    """Make the artifact that `record` publishes findable under its own name. Idempotent, as a killed attempt may have done
    it."""
    published = record.artifact
    while published is not None:
        found = read(objects, published.name)
        if found is not None and found[0].artifact == published:
            return
        before, version = found or (record, None)
        try:
            write(objects, published.name, before.model_copy(update={"artifact": published, "kept": {}, "untold": []}), version)
        except Conflict:
            continue  # another attempt wrote the same pointer at the same moment
