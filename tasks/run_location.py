"""Where a run is stored: in a folder, or in an object store together with a folder of this machine."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.object_store.cache import cache_root, folder_of
from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.artifacts.object_store.manifest_index import manifest_index
from lehr.artifacts.object_store.store import ObjectStore
from lehr.data import remote_files
from lehr.runtime.errors import UserError
from lehr.runtime.paths import is_relative, store_address
from lehr.runtime.ports import Objects, Store

_ARTIFACTS = "/artifacts/"


def is_remote(where: str | Path) -> bool:
    """Whether `where` is an object store's address, not a folder. Raises UserError for unsupported kinds of addresses."""
    return store_address(where) is not None


@cache
def _objects(root: str) -> Objects:
    """Cached, so that everything in this process shares the connections. Raises UserError for an address without a bucket."""
    from lehr.infra.storage import S3Objects  # imported late: a run in a folder does not need boto3

    return S3Objects(root)


@cache
def _checked(root: str) -> None:
    require_conditions(_objects(root))


def serve_data_files() -> None:
    """Let recipes name data files at s3:// addresses."""

    def files() -> remote_files.RemoteFiles:
        from lehr.infra.storage.data_files import S3Files  # as late as above

        return S3Files(cache_root() / "data")

    remote_files.serve("s3", files)


serve_data_files()  # whoever opens a run reads its data too


class RunLocation:
    """References and messages name the run by `root`. `folder` is on this machine: the run's own, or one in the cache if the
    run is in an object store. It holds locks, MLflow's sqlite file, and public files before they are uploaded."""

    def __init__(self, out: str | Path) -> None:
        address = store_address(out)
        self.remote = address is not None
        self.root = address.rstrip("/") if address else str(Path(out).absolute())
        self.folder = folder_of(self.root) if self.remote else Path(self.root)

    def store(self) -> Store:
        return ObjectStore(_objects(self.root), self.folder) if self.remote else LocalStore(self.root)

    def objects(self) -> Objects:
        """The run's place in its object store. Raises UserError for a run in a folder."""
        if not self.remote:
            raise UserError("the run is in a folder, not in an object store", where=self.root, remedy="give s3://BUCKET/PREFIX")
        return _objects(self.root)

    def check(self) -> None:
        """Called before anything is made, and done once per process: raise UserError if the store does not answer, or does
        not support the conditional writes that the fence needs."""
        if self.remote:
            _checked(self.root)

    def share(self, names: Iterable[str]) -> None:
        """Upload files and whole folders of `folder` beside the artifacts; nothing to do if the run is in a folder."""
        if self.remote:
            found = [p for name in names for p in [self.folder / name, *(self.folder / name).rglob("*")] if p.is_file()]
            _objects(self.root).upload({p.relative_to(self.folder).as_posix(): p for p in found})

    def brought(self, name: str) -> Path:
        """A file of the run, downloaded if necessary. Raises UserError if it does not exist."""
        file = self.folder / name
        if self.remote and not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            _objects(self.root).download({name: file})
        if not file.is_file():
            raise UserError("no such file of this run", where=file, remedy="start the run again")
        return file

    def names(self, prefix: str) -> list[str]:
        """The run's files in the store that are `prefix`, or lie in a folder of that name. A key that would lead out of the
        run's folder is none of them."""
        found = _objects(self.root).keys(prefix)
        return [key for key in found if (key == prefix or key.startswith(f"{prefix}/")) and is_relative(key)]

    def manifest_index(self, names: Collection[str] = ()) -> Path:
        """A temporary folder with the run's public files and the manifests of its artifacts, and those files of `names` that an
        artifact has; deleted when the process ends. Raises UserError if there is no run."""
        folder = Path(tempfile.mkdtemp(prefix="lehr-outline-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        manifest_index(_objects(self.root), folder, names)
        return folder

    def shown(self, name: str) -> str:
        """A public file's path or address, for messages."""
        return f"{self.root}/{name}"


def local(uri: str) -> Path:
    """A local folder with the artifact at `uri`, downloaded if necessary. Raises UserError if it is incomplete."""
    if not is_remote(uri):
        return Path(uri)
    return RunLocation(uri.rpartition(_ARTIFACTS)[0]).store().fetch(uri)
