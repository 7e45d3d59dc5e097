"""Parts of files that lie in an object store: which stores this process knows, and what copies of artifacts leave there."""

from __future__ import annotations

import os
from pathlib import Path

from lehr.artifacts.artifact import sha256_file
from lehr.artifacts.elsewhere import Elsewhere
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.ports import Objects

_known: dict[str, Objects] = {}


def know(objects: Objects) -> None:
    """Whoever has a store in this process, be it a rank that was sent its token, reads what is there."""
    _known[objects.root] = objects


def _objects(there: Elsewhere) -> Objects:
    if there.root not in _known:
        raise Bug(f"this process knows no store at {there.root}")
    return _known[there.root]


def read(there: Elsewhere, name: str, start: int, size: int) -> bytes:
    """`size` bytes of a file from `start` on. Raises UserError for a file that is missing or ends before, InfraError if the
    store fails."""
    found = _objects(there).read(f"{there.folder}/{name}", start, size)
    if len(found) != size:
        what = f"file truncated: {len(found)} bytes from byte {start} on instead of {size}"
        raise UserError(what, where=address(there, name), remedy="delete this artifact and run again")
    return found


def address(there: Elsewhere, name: str) -> str:
    return f"{there.root}/{there.folder}/{name}"


def bring(folder: Path, there: Elsewhere, name: str) -> Path:
    """The whole file, downloaded into the copy in `folder` unless it was before. Raises UserError if it is not what the
    artifact's manifest says."""
    path = folder / name
    if path.is_file():
        return path
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _objects(there).download({f"{there.folder}/{name}": beside})
        if sha256_file(beside) != there.files[name]:
            what = "file altered: its SHA-256 differs from the manifest's"
            raise UserError(what, where=address(there, name), remedy="delete this artifact and run again")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path
