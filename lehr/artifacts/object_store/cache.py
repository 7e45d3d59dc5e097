"""This machine's copies of a store's artifacts, and the scratch folders of the attempts that run on it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST, Artifact, sha256_text
from lehr.runtime.errors import UserError
from lehr.runtime.paths import joined


def cache_root() -> Path:
    """$LEHR_CACHE, otherwise `lehr` in the user's cache folder. Raises UserError if it cannot be created or written: a
    container's user may have no home, or one that belongs to another user."""
    base = os.environ.get("LEHR_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "lehr")
    try:
        folder = Path(base).expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except (OSError, RuntimeError) as error:  # RuntimeError: no HOME, and the user is not in the password database
        why = error.strerror if isinstance(error, OSError) else error
        remedy = "set LEHR_CACHE to a folder that you may write"
        raise UserError(f"copies of the store's files cannot be kept here: {why}", where=base, remedy=remedy) from error
    return folder


def folder_of(root: str) -> Path:
    """The folder on this machine for the store at `root`."""
    return cache_root() / "stores" / sha256_text(root)[:16]


class Cache:
    """FOLDER/artifacts/NAME is complete, as in a run's own folder; FOLDER/work/NAME-NUMBER belongs to one attempt. Everything
    can be deleted while no run is active: the store holds it too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def artifact(self, name: str, digest: str) -> Path | None:
        """The copy of that artifact, or None."""
        folder = joined(self.folder / "artifacts", name)
        if not (folder / MANIFEST).is_file():
            return None
        return folder if Artifact.open(folder, verify=False).manifest.digest == digest else None

    def adopt(self, name: str, folder: Path) -> Path:
        """Make `folder` the copy of artifact `name`. The caller must hold `lock`."""
        target = joined(self.folder / "artifacts", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # with other content: the artifact in the store was deleted and made again
            # Renamed before deletion: a process killed in between must not leave half an artifact under its name.
            old = target.with_name(f".{name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
            shutil.rmtree(old)
        os.replace(folder, target)
        return target

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held by one process of this machine at a time: the others wait for its download instead of downloading too. The
        kernel releases it when its holder dies."""
        path = joined(self.folder / "artifacts", f".{name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fetch(self, name: str, digest: str, uri: str, fill: Callable[[Path], None]) -> Path:
        """The copy of that artifact; `fill` downloads it into an empty folder. Raises UserError if the download does not match
        its manifest."""
        if (found := self.artifact(name, digest)) is not None:
            return found
        with self.lock(name):
            if (found := self.artifact(name, digest)) is not None:  # fetched by the process that held the lock before
                return found
            beside = joined(self.folder / "artifacts", f".{name}.new")
            shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
            beside.mkdir()
            fill(beside)
            try:
                Artifact.open(beside)
            except UserError as error:
                raise UserError(error.what, where=uri, remedy=f"the store's copy is damaged: {REPEAT}") from error
            return self.adopt(name, beside)

    def scratch(self, name: str, number: int) -> Path:
        """An attempt's folder, which is not created here. Deletes those of older attempts on this machine: they are superseded,
        and their saves are in the store."""
        folder = joined(joined(self.folder / "work", name).parent, f"{name}-{number}")
        for old in folder.parent.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        return folder


REPEAT = "delete its record, attempts/NAME.json beside `artifacts`, and run the same command again: only this stage is repeated"
