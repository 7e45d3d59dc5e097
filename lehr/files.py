"""Reading files that others wrote: what they hold in place of their content, and JSON that may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lehr.errors import UserError

_POINTER = b"version https://git-lfs."  # how every Git LFS pointer begins, by its specification


def refuse_pointer(path: Path) -> None:
    """Raises UserError if the file at `path` is a Git LFS pointer: a few lines that stand for a file left on a server. One that
    cannot be read is left to whoever reads it."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_POINTER))
    except OSError:
        return
    if begins == _POINTER:
        remedy = "fetch what it stands for (`git lfs pull`, or the model's own download)"
        raise UserError("this is a Git LFS pointer, not the file itself", where=path, remedy=remedy)


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError, with `remedy`, where there is none: a missing file, a pointer, what is not
    UTF-8 or not JSON, numbers and nesting beyond what Python reads."""
    refuse_pointer(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("no such file", where=path, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        raise UserError(what, where=f"{path}{line}", remedy=remedy) from None
    if not isinstance(value, dict):
        raise UserError("not a JSON object", where=path, remedy=remedy)
    return value
