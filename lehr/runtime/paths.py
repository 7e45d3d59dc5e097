"""Names to paths: what somebody chose, or wrote into a file that we read, never leads out of the folder it belongs to."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from lehr.runtime.errors import UserError

LONGEST = 255  # bytes of one component of a path, on every file system that we know


def is_component(name: str) -> bool:
    """Whether `name` is one component of a path: a file or folder right in another, and not that folder or the one above."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and not set(raw) & set(b"/\\\0") and len(raw) <= LONGEST


def is_relative(path: str) -> bool:
    """Whether `path` names a file below the folder that it is joined to: components, and nothing else."""
    return all(is_component(part) for part in path.split("/"))


def is_address(uri: str) -> bool:
    """Whether `uri`, an artifact's, is a folder's path, or an address that stays below its store's root."""
    _, scheme, key = uri.partition("://")
    if not scheme:
        return "\0" not in uri
    _, artifacts, name = key.rpartition("/artifacts/")
    return not {".", ".."} & set(key.split("/")) and "\0" not in key and (not artifacts or is_component(name))


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def store_address(where: str | Path) -> str | None:
    """`where` as a user gave it, without slashes at its end, if that is an object store's address (of two slashes a Path keeps
    one), or None for a folder's path. Raises UserError for the address of anything else: no folder is ever named `gs:`."""
    text = str(where)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return None
    rest = text[scheme.end() :].strip("/")
    if scheme[1] == "s3":
        return f"s3://{rest}"
    known = scheme[1].lower()
    remedy = f"write s3://{rest}" if known in ("s3", "s3a", "s3n") else f"write /{rest}" if known == "file" else ""
    raise UserError(
        f"{scheme[1]}:// is no place that Lehr knows", where=text, remedy=remedy or "give a folder, or s3://BUCKET/PREFIX"
    )


def folder(where: Path) -> Path:
    """`where`, if it is a place on this machine. Raises UserError for an address."""
    if store_address(where) is not None:
        raise UserError("this must be a place on this machine", where=str(where), remedy="give a path")
    return where


def joined(folder: Path, name: str, suffix: str = "") -> Path:
    """`name` in `folder`, with `suffix` behind it. Raises UserError for a name that is not one component of a path."""
    if not is_component(f"{name}{suffix}"):
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise UserError(f"{shown!r} is no name of a file", where=folder, remedy="use letters, digits, '.', '_' and '-'")
    return folder / f"{name}{suffix}"


def below(folder: Path, path: str) -> Path:
    """`path` in `folder`, with the folders that it needs. Raises UserError where it leads out of it, be it by a link: who can
    write a store must not write everywhere on the machines that read it."""
    file = folder / PurePosixPath(path)
    if not is_relative(path) or not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"a file's name in the store leads out of its folder: {path!r}", where=folder, remedy="delete it there")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
