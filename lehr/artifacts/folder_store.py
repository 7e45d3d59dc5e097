"""The Store port on a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lehr.artifacts.artifact import MANIFEST, Artifact, fsync_folder
from lehr.artifacts.fencing import Fence, Keys
from lehr.artifacts.ledger import read_entries
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.paths import joined
from lehr.runtime.ports import ONLY_ATTEMPT, FencingToken


class LocalStore:
    """The Store port on a local or shared folder: ROOT/artifacts/NAME is complete, ROOT/work/NAME belongs to an unfinished
    stage, and ROOT/attempts/NAME.json names the newest attempt at it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def find(self, name: str) -> str | None:
        """See `Store`. A folder without a manifest is not an artifact."""
        folder = joined(self.root / "artifacts", name)
        return str(folder) if (folder / MANIFEST).is_file() else None

    def fetch(self, uri: str) -> Path:
        """The folder itself. Raises UserError if there is no complete artifact."""
        folder = Path(uri)
        if not (folder / MANIFEST).is_file():
            raise UserError("no complete artifact here", where=folder, remedy="run the stage that makes it first")
        return folder

    def described(self, uri: str) -> Artifact:
        """See `Store`. Raises UserError as `fetch` does."""
        return Artifact.open(self.fetch(uri), verify=False)

    def earlier(self, stage: str) -> list[str]:
        """See `Store`."""
        return [str(path.parent) for path in sorted((self.root / "artifacts").glob(f"{stage}-*/{MANIFEST}"))]

    def begin(self, name: str) -> FencingToken:
        """See `Store`. Raises InfraError if another process holds the record's lock for too long."""
        return Fence.take(self.root, name)

    def scratch(self, name: str, fencing: FencingToken = ONLY_ATTEMPT) -> Path:
        """See `Store`. All attempts at a name share it. Raises OSError if it cannot be created."""
        folder = joined(self.root / "work", name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def unfinished(self) -> dict[str, dict[str, str]]:
        """See `Store`."""
        found = {folder.name: read_entries(folder) for folder in sorted((self.root / "work").glob("*"))}
        return {name: entries for name, entries in found.items() if entries}

    def commit(self, name: str, folder: Path, fencing: FencingToken = ONLY_ATTEMPT) -> str:
        """See `Store`. Raises Bug for a folder without a manifest, Preempted if a newer attempt has begun, OSError if the disk
        refuses."""
        if not (folder / MANIFEST).is_file():
            raise Bug(f"{folder}: committed before it was sealed")
        target = joined(self.root / "artifacts", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with fencing.critical_section():
            if (target / MANIFEST).is_file():  # another attempt published first; the fingerprint makes their contents equal
                shutil.rmtree(folder)
            else:
                shutil.rmtree(target, ignore_errors=True)  # without a manifest: left by a process that was killed
                try:
                    os.replace(folder, target)
                except OSError:
                    if not (target / MANIFEST).is_file():
                        raise
                    shutil.rmtree(folder)  # another attempt published first, on a file system whose locks do not exclude it
                fsync_folder(target.parent)
            if folder.parent.parent == self.root / "work":
                shutil.rmtree(folder.parent, ignore_errors=True)
        return str(target)

    def get(self, key: str) -> tuple[str, str] | None:
        return Keys(self.root).get(key)

    def put(self, key: str, value: str, version: str | None) -> str:
        return Keys(self.root).put(key, value, version)
