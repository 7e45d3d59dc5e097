"""Where a run lives: a folder, or a part of an object store with a folder of this machine beside it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.cache import folder_of
from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.artifacts.object_store.manifest_index import manifest_index
from lehr.artifacts.object_store.store import ObjectStore
from lehr.runtime.errors import UserError
from lehr.runtime.paths import store_address
from lehr.runtime.ports import Objects, Store

_ARTIFACTS = "/artifacts/"


def is_remote(where: str | Path) -> bool:
    """Whether it is an object store's address rather than a folder. Raises UserError for an address of another kind."""
    return store_address(where) is not None


@cache
def _objects(root: str) -> Objects:
    """Connections are kept, and shared by all that this process does there. Raises UserError for an address that names no
    bucket."""
    from lehr.infra.storage import S3Objects  # boto3, which a run in a folder does not need

    return S3Objects(root)


@cache
def _checked(root: str) -> None:
    require_conditions(_objects(root))


class RunLocation:
    """`root` is how references and messages name the run. `folder` is on this machine: for a run in a folder that folder, else
    one in the cache. Locks, MLflow's sqlite file and the public files on their way live there."""

    def __init__(self, out: str | Path) -> None:
        address = store_address(out)
        self.remote = address is not None
        self.root = address.rstrip("/") if address else str(Path(out).absolute())
        self.folder = folder_of(self.root) if self.remote else Path(self.root)

    def store(self) -> Store:
        return ObjectStore(_objects(self.root), self.folder) if self.remote else LocalStore(self.root)

    def check(self) -> None:
        """Before anything is made, once a process: does the store answer, and does it keep what the fence rests on? Raises
        UserError if not."""
        if self.remote:
            _checked(self.root)

    def share(self, names: Iterable[str]) -> None:
        """Put files and whole folders of `folder` beside the artifacts, where they are not there already."""
        if self.remote:
            found = [p for name in names for p in [self.folder / name, *(self.folder / name).rglob("*")] if p.is_file()]
            _objects(self.root).upload({p.relative_to(self.folder).as_posix(): p for p in found})

    def brought(self, name: str) -> Path:
        """A file of the run, on this machine. Raises UserError if there is none."""
        file = self.folder / name
        if self.remote and not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            _objects(self.root).download({name: file})
        if not file.is_file():
            raise UserError("no such file of this run", where=file, remedy="start the run again")
        return file

    def manifest_index(self) -> Path:
        """A folder like the run's own that holds no more of its artifacts than their manifests; it goes with this process.
        Raises UserError where there is no run."""
        folder = Path(tempfile.mkdtemp(prefix="lehr-outline-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        manifest_index(_objects(self.root), folder)
        return folder

    def shown(self, name: str) -> str:
        """A public file as a user may ask for it."""
        return f"{self.root}/{name}"


def local(uri: str) -> Path:
    """A folder of this machine with the artifact at `uri`. Raises UserError if it is not complete there."""
    if not is_remote(uri):
        return Path(uri)
    return RunLocation(uri.rpartition(_ARTIFACTS)[0]).store().fetch(uri)
