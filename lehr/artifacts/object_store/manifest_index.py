"""A run's manifests and public files without its weights: enough to answer questions about the run."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST, REPEAT
from lehr.artifacts.object_store import record as records
from lehr.runtime.json_files import read_object
from lehr.runtime.paths import below, joined
from lehr.runtime.ports import Objects

_PUBLIC = ("recipe.yaml", "scores.json", "lineage.json", "footprint.json")


def manifest_index(objects: Objects, folder: Path, names: Collection[str] = ()) -> None:
    """Fill `folder` like a run's own, but with only the manifests of its artifacts, and those of the files `names` that an
    artifact has. A manifest's file time is set to when its attempt began: readers take the newest of two artifacts of one
    stage. Raises UserError for a damaged manifest, if there are names."""
    wanted = {name: folder / name for name in _PUBLIC if name in objects.keys(name)}
    began: dict[Path, str] = {}
    keys: dict[Path, str] = {}
    for key in objects.keys("attempts/"):
        name = key.removeprefix("attempts/").removesuffix(".json")
        found = records.read(objects, name)
        if found is not None and found[0].artifact is not None and found[0].artifact.name == name:
            manifest = below(joined(folder / "artifacts", name), MANIFEST)
            wanted[f"{found[0].artifact.folder}/{MANIFEST}"] = manifest
            began[manifest], keys[manifest] = found[0].began, found[0].artifact.folder
    objects.download(wanted)
    if names:
        objects.download({f"{key}/{name}": below(m.parent, name) for m, key in keys.items() for name in _there(m, names)})
    for manifest, when in began.items():
        seconds = datetime.strptime(when, "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC).timestamp()
        os.utime(manifest, (seconds, seconds))


def _there(manifest: Path, names: Collection[str]) -> list[str]:
    files = read_object(manifest, REPEAT).get("files")
    return [name for name in names if isinstance(files, dict) and name in files]
