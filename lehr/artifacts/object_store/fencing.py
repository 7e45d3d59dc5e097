"""One attempt's fencing token without locks: whatever it uploads becomes visible only with a conditional put of its record."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file
from lehr.artifacts.fencing import overtaken
from lehr.artifacts.incidents import FILE as INCIDENTS
from lehr.artifacts.object_store import ranges
from lehr.artifacts.object_store import record as records
from lehr.artifacts.object_store.async_upload import AsyncUploader, Identity, identity, snapshot
from lehr.artifacts.object_store.ledger import get_entries, put_entry
from lehr.artifacts.object_store.record import Record, StoredFile
from lehr.artifacts.object_store.remote_shards import RemoteShards
from lehr.runtime.errors import LehrError, Preempted, UserError
from lehr.runtime.paths import below
from lehr.runtime.ports import REMOTE, Conflict, Objects
from lehr.runtime.rank_environment import on_other_host


class RemoteToken:
    """The token on ranks that publish nothing themselves; see `lehr.runtime.ports.FencingToken`."""

    shared = False  # each machine has copies of its own

    def __init__(self, objects: Objects, name: str, number: int, token: str, remote_shards: RemoteShards) -> None:
        self.objects, self.name, self.number, self.token, self.remote_shards = objects, name, number, token, remote_shards
        ranges.know(objects)

    @property
    def work(self) -> str:
        """See `FencingToken`."""
        return f"{self.objects.root}/work/{self.name}"

    def enter(self, scratch: Path, note: Callable[[str], None]) -> None:
        """Nothing to do: rank 0's token does it for all."""

    def leave(self, exit_reason: str) -> None:
        """See `enter`."""

    def check(self) -> None:
        """Raises Preempted if a newer attempt has begun."""
        self._current()

    def _current(self) -> tuple[Record, str]:
        """The record and its version, if it is still this attempt's. Raises Preempted."""
        found = records.read(self.objects, self.name)
        if found is None or found[0].token != self.token:
            raise overtaken(self.name, self.number, found[0].model_dump() if found else {})
        return found

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """Nothing is locked: the scratch belongs to this attempt alone. Raises Preempted if a newer attempt has begun."""
        self.check()
        yield

    def upload(self) -> None:
        """Nothing to do: rank 0 uploads for all."""

    def flush(self) -> None:
        """See `upload`."""

    def here(self, path: Path) -> Path:
        """See `FencingToken`."""
        return self.remote_shards.here(path, self.name, self.number)

    def send(self, part: Path) -> str:
        """See `FencingToken`. Raises Preempted if a newer attempt has begun: its record would never name the shard."""
        if on_other_host():
            self.check()
        return self.remote_shards.send(part, self.name, self.number)

    def bring(self, folder: Path) -> None:
        """See `FencingToken`."""
        self.remote_shards.bring(folder)

    def keep_entry(self, scratch: Path, name: str, entry: str) -> None:
        """See `FencingToken`. An object of its own, which no record names: an attempt may be killed before its first save.
        Nothing is left of one that is overtaken, once the newer one is done."""
        found = records.read(self.objects, self.name)
        if found is not None and not records.published(found[0]):
            put_entry(self.objects, self.name, name, entry)

    def entries(self, scratch: Path, prefix: str = "") -> dict[str, str]:
        """See `FencingToken`."""
        return get_entries(self.objects, self.name, prefix)


class OwnToken(RemoteToken):
    """The token of the process that began the attempt. Only it writes the record, and knows the record's version."""

    def __init__(
        self, objects: Objects, name: str, record: Record, version: str, scratch: Path, remote_shards: RemoteShards
    ) -> None:
        super().__init__(objects, name, record.attempt, record.token, remote_shards)
        self.record, self.scratch = record, scratch
        self._version, self._lock = version, threading.Lock()
        self._known: dict[str, tuple[Identity, StoredFile]] = {}
        self._uploader, self._snapshots = AsyncUploader(self._copy), 0

    def __reduce__(self) -> tuple[Any, ...]:
        # Other ranks receive a copy in their own process.
        return (RemoteToken, (self.objects, self.name, self.number, self.token, self.remote_shards))

    def publish(self, **changes: object) -> None:
        """Change the record. Raises Preempted, without publishing anything, if a newer attempt has begun."""
        with self._lock:
            record = self.record.model_copy(update={**changes, "change": self.record.change + 1})
            while True:
                try:
                    self._version = records.write(self.objects, self.name, record, self._version)
                    break
                except Conflict:  # a newer attempt, which `_current` tells; otherwise the store was busy and asks for a retry
                    self._version = self._current()[1]
            self.record = record

    def enter(self, scratch: Path, note: Callable[[str], None]) -> None:
        """See `FencingToken`. The record holds the lines about older attempts."""
        for line in self.record.untold:
            note(line)

    def leave(self, exit_reason: str) -> None:
        """See `FencingToken`. If the store cannot be reached, the next attempt does without the exit reason."""
        if exit_reason:
            with suppress(LehrError):
                self.publish(ended=exit_reason)

    def restore(self) -> None:
        """Download the saves of earlier attempts into the scratch. A file whose hash is wrong is deleted: whoever reads a save
        checks it and then takes the one before. Raises Preempted if a newer attempt has begun, UserError if an object is
        gone."""
        self.scratch.mkdir(parents=True)
        wanted = {kept.object: below(self.scratch, path) for path, kept in self.record.kept.items()}
        try:
            self.objects.download(wanted)
        except UserError:  # an object is missing ...
            self.check()  # ... normally because a newer attempt has replaced the saves
            raise
        for path, kept in self.record.kept.items():
            file = self.scratch / path
            if file.stat().st_size == kept.bytes and sha256_file(file) == kept.sha256:
                self._known[path] = identity(file), kept
            else:
                file.unlink()

    def upload(self) -> None:
        """See `FencingToken`. Only hard links and a copy of the log are made here; a thread does the rest. If the store is
        slower than the saves, those superseded by newer ones are not uploaded at all."""
        self._snapshots += 1
        folder = self.scratch / f".kept-{self._snapshots}"
        snapshot(self.scratch, folder)
        self._uploader.hand(folder)

    def flush(self) -> None:
        """See `FencingToken`."""
        self._uploader.flush()

    def saved(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Those of `files` that are files of a save under another name, by hard links: the keys of their objects."""
        keys = {who: kept.object for who, kept in self._known.values()}
        return {path: keys[who] for path, file in files.items() if (who := identity(file)) in keys}

    def stop_uploading(self) -> None:
        """Drop the snapshot that waits to be uploaded: the stage is done."""
        self._uploader.stop()

    def _copy(self, folder: Path) -> None:
        """On the uploader's thread: upload the snapshot's new files, publish them in the record, delete the objects that it
        named before. In this order: a reader of either record finds all its objects."""
        try:
            self.check()  # before sending gigabytes in vain
            entries, fresh = self._compare(folder)
            try:
                self.objects.upload({entries[path].object: folder / path for path in fresh})
                before = self.record.kept
                self.publish(kept=entries, untold=[] if INCIDENTS in entries else self.record.untold)
            except Preempted:
                self.objects.delete([entries[path].object for path in fresh])
                raise
            here = {path: kept for path, kept in entries.items() if not (folder / f"{path}{REMOTE}").is_file()}
            self._known = {path: (identity(folder / path), kept) for path, kept in here.items()}
            named = {kept.object for kept in entries.values()}
            self.objects.delete({kept.object for kept in before.values()} - named)
            if len(here) < len(entries):
                self.remote_shards.clear(self.name, named, self.scratch)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _compare(self, folder: Path) -> tuple[dict[str, StoredFile], list[str]]:
        """The record's entry for every file of a snapshot, and which of the files the store does not have yet."""
        entries, fresh = dict[str, StoredFile](), list[str]()
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            path = file.relative_to(folder).as_posix()
            if file.suffix == REMOTE:
                entries[path.removesuffix(REMOTE)] = StoredFile.model_validate_json(file.read_text(encoding="utf-8"))
            if file.suffix == REMOTE or file.with_name(file.name + REMOTE).is_file():
                continue  # another machine's shard, which that machine has uploaded
            known = self._known.get(path)
            if known is not None and known[0] == identity(file):
                entries[path] = known[1]
                continue
            key = f"work/{self.name}/{self.number}{folder.name.removeprefix('.kept')}/{path}"
            entries[path] = StoredFile(object=key, bytes=file.stat().st_size, sha256=sha256_file(file))
            fresh.append(path)
        return entries, fresh
