"""Saves on machines other than rank 0's: they fetch the artifacts that rank 0 names, and upload their ranks' model shards."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from lehr.artifacts.object_store.cache import folder_of
from lehr.artifacts.object_store.record import StoredFile
from lehr.runtime.ports import REMOTE, Objects, Store
from lehr.runtime.rank_environment import on_other_host


@dataclass(frozen=True)
class RemoteShards:
    """`home` is rank 0's cache; `store` fetches into this machine's cache."""

    objects: Objects
    home: Path
    store: Store

    def here(self, path: Path, name: str, number: int) -> Path:
        """See lehr.runtime.ports.FencingToken.here."""
        if not on_other_host() or not path.is_relative_to(self.home):
            return path
        kind, folder, *rest = path.relative_to(self.home).parts
        if kind == "artifacts":
            return self.store.fetch(f"{self.objects.root}/{kind}/{folder}").joinpath(*rest)
        return folder_of(self.objects.root).joinpath(kind, f"{name}-{number}", *rest)

    def send(self, part: Path, name: str, number: int) -> str:
        """See lehr.runtime.ports.FencingToken.send. Each call uses a new key: an object that a record names never changes."""
        if not on_other_host():
            return ""
        key = f"work/{name}/{number}/remote/{uuid.uuid4().hex}/{part.parent.name}/{part.name}"
        self.objects.upload({key: part})
        return key

    def bring(self, folder: Path) -> None:
        """See lehr.runtime.ports.FencingToken.bring."""
        said = {p: StoredFile.model_validate_json(p.read_text(encoding="utf-8")) for p in folder.rglob(f"*{REMOTE}")}
        missing = {kept.object: p.with_suffix("") for p, kept in said.items() if not p.with_suffix("").is_file()}
        if missing:
            self.objects.download(missing)

    def clear(self, name: str, named: set[str], scratch: Path) -> None:
        """Delete shards that are not `named`, of saves that `scratch` no longer has. A shard whose save folder still exists, be
        it only in a snapshot that waits to be uploaded, may yet be named: it is being written, or its turn has not come."""
        parts = [key for key in self.objects.keys(f"work/{name}/") if "/remote/" in key]
        there = {Path(folder).name for folder, _, _ in os.walk(scratch)}  # listed after the keys: a folder precedes its shards
        self.objects.delete([key for key in parts if key not in named and key.split("/")[-2] not in there])
