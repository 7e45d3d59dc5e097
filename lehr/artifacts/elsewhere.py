"""Files of an artifact that a copy of it leaves where they are, in an object store: readers take ranges of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lehr.runtime.errors import UserError

FILE = ".elsewhere.json"
_ENDS = {"shards": (".tokens", ".spans", ".ids")}  # by the artifact's kind, how the names of such files end


class Elsewhere(BaseModel):
    """The content of FILE: the store's root, the key of the artifact's folder there, and the SHA-256 of each such file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    root: str
    folder: str
    files: dict[str, str]


def stays(kind: str, name: str) -> bool:
    """Whether copies of an artifact of that kind leave the file `name` in the store."""
    return name.endswith(_ENDS.get(kind, ()))


def elsewhere(folder: Path) -> Elsewhere | None:
    """What the copy in `folder` has left in the store; None if it is whole. Raises UserError for a damaged FILE."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Elsewhere.model_validate_json(path.read_bytes())
    except ValidationError:
        remedy = "delete this copy of the artifact: it is fetched again"
        raise UserError("damaged record of what is in the store", where=path, remedy=remedy) from None


def left_out(folder: Path, name: str, sha256: str) -> bool:
    """Whether the copy in `folder` has left that file in the store."""
    found = elsewhere(folder)
    return found is not None and found.files.get(name) == sha256
