"""Code versions that were worked out before, kept where Python keeps compiled modules: to work them out anew takes a second and
a half of a core at every start."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from lehr.artifacts.artifact import write_atomic
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

_ROOT = Path(__file__).resolve().parents[1]


def kept(name: str, work_out: Callable[[], str]) -> str:
    """What `work_out` returns: a function of the text of Lehr's modules and of `name` alone."""
    known = _known()
    if name not in known:
        known[name] = work_out()
        if not sys.dont_write_bytecode:
            _write(known)
    return known[name]


@cache
def _known() -> dict[str, str]:
    try:
        found = read_object(_file(), "remove it")
    except UserError:  # not there yet, damaged, or another user's: worked out again
        return {}
    versions = found.get("versions")
    return {str(k): str(v) for k, v in versions.items()} if found.get("code") == _code() and isinstance(versions, dict) else {}


def _write(known: dict[str, str]) -> None:
    text = json.dumps({"code": _code(), "versions": known}, sort_keys=True)
    try:
        write_atomic(_file(), text)
    except OSError:  # installed by another user, or on a disk that is full or read-only
        return


def _file() -> Path:
    return Path(cache_from_source(str(_ROOT / "__init__.py"))).with_name(f"versions.{sys.implementation.cache_tag}.json")


@cache
def _code() -> str:
    """Hex SHA-256 over the names and bytes of all modules in the package, those that a checkout has links to included."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(_ROOT, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                path = Path(folder, name)
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
