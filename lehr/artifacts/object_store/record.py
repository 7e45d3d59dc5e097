"""What `attempts/NAME.json` says: which attempt at NAME is the newest, what may be gone on from, and what is published.

It is the one pointer. Objects that it does not name are nothing, however complete they are; so one conditional put of it makes
an artifact or a save visible, and an attempt that was overtaken, whose version is out of date, makes nothing visible.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from lehr.artifacts.fencing import attempt
from lehr.artifacts.incidents import described, ended
from lehr.runtime.errors import UserError
from lehr.runtime.ports import Conflict, Objects


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kept(_Said):
    """One file of a save: the key of its object, its size in bytes and its SHA-256."""

    object: str
    bytes: int
    sha256: str


class Published(_Said):
    """A complete artifact: its name, the key of its folder, and its digest. Work that began under a name of its own (see
    lehr.pipeline.run) may end in an artifact of another, whose own record then points there too."""

    name: str
    folder: str
    digest: str


class Record(_Said):
    """The first five say who is at work; `kept` holds the newest save by path in the scratch. `change` counts what one attempt
    wrote, so that no two values are equal. `ended` is what this attempt ended with, `untold` the lines about older ones that
    stand in no save yet."""

    attempt: int
    token: str
    host: str
    process: int
    began: str
    change: int = 0
    kept: dict[str, Kept] = {}
    artifact: Published | None = None
    ended: str = ""
    untold: list[str] = []


def key(name: str) -> str:
    return f"attempts/{name}.json"


def read(objects: Objects, name: str) -> tuple[Record, str] | None:
    """The record of `name` and its version, or None. Raises UserError for one that is not ours."""
    found = objects.get(key(name))
    if found is None:
        return None
    try:
        return Record.model_validate_json(found[0]), found[1]
    except ValidationError as error:
        raise UserError(
            f"this is no attempt's record ({error.errors()[0]['msg']})",
            where=f"{objects.root}/{key(name)}",
            remedy="delete it, and the stage is made anew; or choose another --out",
        ) from error


def write(objects: Objects, name: str, record: Record, version: str | None) -> str:
    """Replace the record of that version; returns the new version. Raises Conflict if another stands there.

    A put whose answer was lost is sent again and then meets itself: that is no conflict.
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
    """Take the next attempt number of `name`, with what earlier attempts kept. Those are refused from now on."""
    while True:
        found = read(objects, name)
        before, version = found or (None, None)
        who = attempt(before.attempt + 1 if before else 1)
        record = Record.model_validate(who)
        if before is not None:
            about = ended(described(before.model_dump()), before.ended, record.attempt, lives=None)
            untold = [] if _published(before) else [*before.untold, about]
            record = record.model_copy(update={"kept": before.kept, "artifact": before.artifact, "untold": untold})
        try:
            return record, write(objects, name, record, version)
        except Conflict:
            continue  # another attempt began, or kept something, at the same moment


def _published(record: Record) -> bool:
    """Whether this attempt itself ended in an artifact. An earlier one's, under another layout, may stand there before it."""
    return record.artifact is not None and record.artifact.folder.endswith(f"/{record.attempt}")


def point(objects: Objects, record: Record) -> None:
    """Let the artifact that `record` publishes be found under its own name. Safe to repeat."""
    published = record.artifact
    while published is not None:
        found = read(objects, published.name)
        if found is not None and found[0].artifact == published:
            return
        before, version = found or (record, None)
        try:
            write(objects, published.name, before.model_copy(update={"artifact": published, "kept": {}, "untold": []}), version)
        except Conflict:
            continue  # another attempt points there at the same moment
