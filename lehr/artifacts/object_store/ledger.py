"""Entries of the cost ledger in an object store, under work/NAME/energy/; deleted with all of work/NAME at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lehr.artifacts.ledger import FOLDER, read_entries, write_entry
from lehr.runtime.paths import is_component
from lehr.runtime.ports import Objects


def _folder(work: str) -> str:
    return f"work/{work}/{FOLDER}/"


def put_entry(objects: Objects, work: str, name: str, entry: str) -> None:
    """Put or replace the entry `name` of `work`. Raises what the store raises."""
    with tempfile.TemporaryDirectory(prefix="lehr-entry-") as beside:
        objects.upload({f"{_folder(work)}{name}": write_entry(Path(beside), name, entry)})


def get_entries(objects: Objects, work: str, begins: str = "") -> dict[str, str]:
    """The texts of the entries of `work` by name. Raises what the store raises; UserError if one is deleted meanwhile."""
    start = _folder(work)
    names = [key.removeprefix(start) for key in objects.keys(start + begins)]
    with tempfile.TemporaryDirectory(prefix="lehr-entries-") as beside:
        folder = Path(beside) / FOLDER
        folder.mkdir()
        objects.download({f"{start}{name}": folder / name for name in names if is_component(name)})
        return read_entries(Path(beside))


def with_entries(objects: Objects) -> list[str]:
    """The names of the work that has entries."""
    keys = (key.split("/") for key in objects.keys("work/"))
    return sorted({parts[1] for parts in keys if len(parts) == 4 and parts[2] == FOLDER})
