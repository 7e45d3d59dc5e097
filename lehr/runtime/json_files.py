"""Reading JSON files from outside, which may hold anything, or a Git LFS pointer instead of their content."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lehr.runtime.errors import UserError

_POINTER = b"version https://git-lfs."  # the beginning of every Git LFS pointer, by its specification
POINTER_REMEDY = "fetch the real file (`git lfs pull`, or the model's own download)"


def is_pointer(path: Path) -> bool:
    """Whether the file at `path` is a Git LFS pointer: a few lines in place of a file left on a server. False for a file that
    cannot be read: whoever reads it next reports that."""
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def refuse_pointer(path: Path) -> None:
    """Raises UserError for a Git LFS pointer."""
    if is_pointer(path):
        raise UserError("this is a Git LFS pointer, not the file itself", where=path, remedy=POINTER_REMEDY)


def read_json(path: Path, remedy: str) -> Any:
    """The JSON value in a file. Raises UserError, with `remedy`, for a missing file, a folder, a Git LFS pointer, invalid UTF-8
    or JSON, and numbers or nesting beyond what Python reads."""
    refuse_pointer(path)
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("no such file", where=path, remedy=remedy) from None
    except IsADirectoryError:
        raise UserError("this is a folder, not a file", where=path, remedy=remedy) from None
    return parse(raw, str(path), remedy)


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError as `read_json` does, and for any other value."""
    return _object(read_json(path, remedy), str(path), remedy)


def read_objects(path: Path, remedy: str) -> list[dict[str, Any]]:
    """The JSON list of objects in a file. Raises UserError as `read_json` does, and for any other value."""
    value = read_json(path, remedy)
    if not isinstance(value, list):
        raise UserError("not a JSON list", where=path, remedy=remedy)
    return [_object(item, f"{path}: number {number}", remedy) for number, item in enumerate(value, 1)]


def read_rows(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one object on each line, `.gz` or plain, one by one. Raises UserError as `read_object`
    does, naming the line, and for a truncated file. Users' own files are read by `lehr.data.lines` instead, which bounds the
    memory for a line."""
    refuse_pointer(path)
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield object_in(line, f"{path}:{number}", remedy)
    except FileNotFoundError:
        raise UserError("no such file", where=path, remedy=remedy) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"damaged file ({error})", where=f"{path}:{number + 1}", remedy=remedy) from None


def object_in(raw: bytes | str, where: str, remedy: str) -> dict[str, Any]:
    """The JSON object in a line; `where` is its place for error messages. Raises UserError as `read_object` does."""
    return _object(parse(raw.strip(), where, remedy), where, remedy)


def parse(raw: bytes | str, where: str, remedy: str) -> Any:
    """The JSON value of a text; `where` is its place for error messages. Raises UserError as `read_json` does."""
    try:
        return json.loads(raw.decode("utf-8") if isinstance(raw, bytes) else raw)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) and error.lineno > 1 else ""
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        raise UserError(what, where=f"{where}{line}", remedy=remedy) from None


def _object(value: Any, where: str, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError("not a JSON object", where=where, remedy=remedy)
    return value
