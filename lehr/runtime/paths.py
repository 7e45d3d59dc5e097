"""Names to paths: a name chosen by a user, or read from a file, never leads out of the folder it belongs to."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from socket import gethostname

from lehr.runtime.errors import UserError

LONGEST = 255  # bytes of one component of a path, on all common file systems


def is_component(name: str) -> bool:
    """Whether `name` is one component of a path: a file or folder directly in another, and neither `.` nor `..`."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and not set(raw) & set(b"/\\\0") and len(raw) <= LONGEST


def is_relative(path: str) -> bool:
    """Whether `path` names a file below the folder to which it is joined: valid components only."""
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
    """`where`, as given by a user, without trailing slashes if it is an object store's address, or None for a folder's path. A
    single slash after the scheme is accepted, since Path collapses two. Raises UserError for any other scheme: a folder named
    `gs:` is never meant."""
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
        f"{scheme[1]}:// addresses are not supported",
        where=_as_written(text, scheme),
        remedy=remedy or "give a folder, or s3://BUCKET/PREFIX",
    )


def _as_written(text: str, scheme: re.Match[str]) -> str:
    """An address as its user wrote it: with the slashes that Path took away, three after `file:`."""
    slashes = "///" if scheme[1].lower() == "file" else "//"
    return f"{scheme[1]}:{slashes}{text[scheme.end() :].lstrip('/')}"


def folder(where: Path) -> Path:
    """`where`, which must be a path on this machine. Raises UserError for an address."""
    if (address := store_address(where)) is not None:
        raise UserError("this must be a path on this machine", where=address, remedy="give a path")
    return where


def joined(folder: Path, name: str, suffix: str = "") -> Path:
    """`name` + `suffix` in `folder`. Raises UserError unless that is one component of a path."""
    if not is_component(f"{name}{suffix}"):
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise UserError(f"{shown!r} is not a valid file name", where=folder, remedy="use letters, digits, '.', '_' and '-'")
    return folder / f"{name}{suffix}"


def below(folder: Path, path: str) -> Path:
    """`path` in `folder`; makes the folders between them. Raises UserError if it leads out of `folder`, be it through a
    symbolic link: whoever can write to a store must not be able to write anywhere on the machines that read it."""
    file = folder / PurePosixPath(path)
    if not is_relative(path) or not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"a file's name in the store leads out of its folder: {path!r}", where=folder, remedy="delete it there")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def beside(path: Path) -> Path:
    """Where a file is written before it gets its name: this process' own place. On a cluster an attempt that must leave may
    still be at what the next one is at too, in another pod on the same folder."""
    return path.with_name(f"{path.name}.{gethostname()[:63]}-{os.getpid()}.partial")
