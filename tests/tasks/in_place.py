"""A pod of a stage on several nodes, as a process, in a store that is a folder: tests kill it, and start another in its place.

python -m tests.tasks.in_place FOLDER NODES RANKS COMMAND ...
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from lehr.artifacts.fencing import Keys
from lehr.tasks import meeting, pod_ranks


class Folder:
    """A store's objects, as far as a meeting needs them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._keys = folder, Keys(folder)
        self.root = "s3://b/p"

    def get(self, key: str) -> tuple[str, str] | None:
        return self._keys.get(key)

    def put(self, key: str, value: str, version: str | None) -> str:
        return self._keys.put(key, value, version)

    def keys(self, prefix: str) -> list[str]:
        found = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("[!.]*") if path.is_file()]
        return [key for key in found if key.startswith(prefix)]

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            (self.folder / key).unlink(missing_ok=True)

    def upload(self, files: Mapping[str, Path]) -> None:
        raise NotImplementedError

    def download(self, files: Mapping[str, Path]) -> None:
        raise NotImplementedError

    def abort_uploads(self, prefix: str) -> None:
        raise NotImplementedError


def main(folder: Path, nodes: int, count: int, command: list[str]) -> int:
    meeting._PAUSE_SECONDS = pod_ranks.MEETING_LOOK_SECONDS = 0.05
    meeting._SPARE_SECONDS = pod_ranks.SETTLE_SECONDS = 1.0
    return pod_ranks.run(lambda: meeting.Meeting(Folder(folder), "stage1", nodes), command, count)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
