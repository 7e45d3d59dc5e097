"""The Store port on an object store."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lehr.artifacts.artifact import MANIFEST, Artifact, Manifest, write_atomic
from lehr.artifacts.elsewhere import FILE as ELSEWHERE
from lehr.artifacts.elsewhere import Elsewhere, stays
from lehr.artifacts.object_store import ranges
from lehr.artifacts.object_store import record as records
from lehr.artifacts.object_store.cache import REPEAT, Cache, folder_of
from lehr.artifacts.object_store.fencing import OwnToken
from lehr.artifacts.object_store.ledger import get_entries, with_entries
from lehr.artifacts.object_store.record import Published
from lehr.artifacts.object_store.remote_shards import RemoteShards
from lehr.runtime.errors import Bug, Preempted, UserError, validators_words
from lehr.runtime.paths import below, is_component
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken, Objects

_ARTIFACTS = "artifacts"


class ObjectStore:
    """See lehr.runtime.ports.Store. An artifact's uri is ROOT/artifacts/NAME; attempt N at it uploads its files under
    ROOT/artifacts/NAME/N and its saves under ROOT/work/NAME, and the record ROOT/attempts/NAME.json names the valid ones."""

    def __init__(self, objects: Objects, folder: Path | None = None) -> None:
        self.objects = objects
        ranges.know(objects)
        self.cache = Cache(folder or folder_of(objects.root))

    def __reduce__(self) -> tuple[Any, ...]:
        return (ObjectStore, (self.objects,))  # without the cache: another machine uses its own

    def find(self, name: str) -> str | None:
        return self._uri(name) if self._published(name) else None

    def _uri(self, name: str) -> str:
        return f"{self.objects.root}/{_ARTIFACTS}/{name}"

    def _published(self, name: str) -> Published | None:
        found = records.read(self.objects, name)
        published = found[0].artifact if found else None
        return published if published is not None and published.name == name else None

    def described(self, uri: str) -> Artifact:
        published = self._of(uri)
        with tempfile.TemporaryDirectory() as beside:
            manifest = self._manifest(published, Path(beside), uri)
        return Artifact(Path(uri), manifest, uri)

    def _of(self, uri: str) -> Published:
        name = uri.removeprefix(f"{self.objects.root}/{_ARTIFACTS}/")
        published = self._published(name) if is_component(name) else None
        if published is None:
            raise UserError("no complete artifact here", where=uri, remedy="run the stage that makes it first")
        return published

    def fetch(self, uri: str) -> Path:
        published = self._of(uri)
        return self.cache.fetch(published.name, published.digest, uri, lambda folder: self._download(published, folder, uri))

    def _manifest(self, published: Published, folder: Path, uri: str) -> Manifest:
        self.objects.download({f"{published.folder}/{MANIFEST}": folder / MANIFEST})
        try:
            return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
        except ValidationError as error:
            raise UserError(
                f"damaged manifest ({validators_words(error.errors()[0]['msg'])})", where=uri, remedy=REPEAT
            ) from error
        except ValueError as error:  # no UTF-8
            raise UserError("damaged manifest", where=uri, remedy=REPEAT) from error

    def _download(self, published: Published, folder: Path, uri: str) -> None:
        manifest = self._manifest(published, folder, uri)
        left = {name: found.sha256 for name, found in manifest.files.items() if stays(manifest.kind, name)}
        if left:
            there = Elsewhere(root=self.objects.root, folder=published.folder, files=left)
            write_atomic(folder / ELSEWHERE, there.model_dump_json())
        wanted = [name for name in manifest.files if name not in left]
        self.objects.download({f"{published.folder}/{name}": below(folder, name) for name in wanted})

    def earlier(self, stage: str) -> list[str]:
        """See `Store`."""
        names = [key.removeprefix("attempts/").removesuffix(".json") for key in self.objects.keys(f"attempts/{stage}-")]
        return [uri for name in names if is_component(name) and (uri := self.find(name)) is not None]

    def begin(self, name: str) -> FencingToken:
        record, version = records.begin(self.objects, name)
        records.point(self.objects, record)  # finish for an earlier attempt that was killed between `publish` and `point`
        remote_shards = RemoteShards(self.objects, self.cache.folder, self)
        return OwnToken(self.objects, name, record, version, self.cache.scratch(name, record.attempt), remote_shards)

    def unfinished(self) -> dict[str, dict[str, str]]:
        """See `Store`."""
        names = [name for name in with_entries(self.objects) if is_component(name)]
        records_of = {name: records.read(self.objects, name) for name in names}
        open_ones = [name for name, found in records_of.items() if found is not None and not records.published(found[0])]
        return {name: get_entries(self.objects, name) for name in open_ones}

    def scratch(self, name: str, fencing: FencingToken) -> Path:
        own = _own(fencing)
        own.restore()
        return own.scratch

    def commit(self, name: str, folder: Path, fencing: FencingToken = ONLY_ATTEMPT) -> str:
        """See lehr.runtime.ports.Store. First the files, then the record that names them; objects that no record names are
        deleted last. Raises Bug for a folder without a manifest, Preempted if a newer attempt has begun."""
        own, manifest = _own(fencing), folder / MANIFEST
        if not manifest.is_file():
            raise Bug(f"{folder}: committed before it was sealed")
        own.stop_uploading()
        place = f"{_ARTIFACTS}/{name}/{own.number}"
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        digest = Manifest.model_validate_json(manifest.read_text(encoding="utf-8")).digest
        try:
            own.check()  # before sending gigabytes in vain
            saved = own.saved(files)
            if saved:
                self.objects.copy({key: f"{place}/{path}" for path, key in saved.items()})
            self.objects.upload({f"{place}/{path}": file for path, file in files.items() if path not in saved})
            own.publish(artifact=Published(name=name, folder=place, digest=digest), kept={}, untold=[])
            records.point(self.objects, own.record)
        except Preempted:
            self._clear(f"{place}/")
            raise
        with self.cache.lock(name):
            self.cache.adopt(name, folder)
        shutil.rmtree(own.scratch, ignore_errors=True)
        self._clear(f"work/{own.name}/")
        self._clear(f"{_ARTIFACTS}/{name}/", f"{place}/")
        return self._uri(name)

    def _clear(self, prefix: str, but: str | None = None) -> None:
        """Delete what superseded and killed attempts left under `prefix`, unfinished multipart uploads included."""
        self.objects.abort_uploads(prefix)
        self.objects.delete([key for key in self.objects.keys(prefix) if but is None or not key.startswith(but)])

    def get(self, key: str) -> tuple[str, str] | None:
        return self.objects.get(key)

    def put(self, key: str, value: str, version: str | None) -> str:
        return self.objects.put(key, value, version)


def _own(fencing: FencingToken) -> OwnToken:
    if not isinstance(fencing, OwnToken):
        raise Bug("in an object store only the process that began the attempt may write and publish")
    return fencing
