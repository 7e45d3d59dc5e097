"""The memory copies that one machine holds: files in a folder of shared memory, which outlives the processes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import canonical, sha256_file, sha256_text, write_atomic

GENERATIONS = 2  # that are kept: the newest may be incomplete, or damaged


@dataclass(frozen=True, order=True)
class Generation:
    """The state that a copy is of, and the attempt that made it. The greater is the newer: a rollback goes back in steps."""

    rollbacks: int
    step: int
    attempt: int

    @property
    def order(self) -> tuple[int, int]:
        """By which it is compared with a save in the store."""
        return self.rollbacks, self.step

    @property
    def values(self) -> list[int]:
        return [self.rollbacks, self.step, self.attempt]


@dataclass(frozen=True)
class Owner:
    """What a copy belongs to: it is read only for the same work, under the same layout."""

    work: str  # of which run and stage; see FencingToken.work
    layout: str
    parts: int  # of which a whole state consists: one, or one for each rank


class CopyFolder:
    """`ROLLBACKS-STEP-ATTEMPT-PART.safetensors` and then its record beside it, `.json` {content, sha256}, as a resume file has
    one. Ranks of one machine share the folder and write different parts. Nothing is fsynced: it is memory."""

    def __init__(self, base: Path, owner: Owner) -> None:
        self.owner, self.folder = owner, base / sha256_text(owner.work)[:16]

    def path(self, generation: Generation, part: int) -> Path:
        rollbacks, step, attempt = generation.values
        return self.folder / f"{rollbacks:04d}-{step:08d}-{attempt:06d}-{part:06d}.safetensors"

    def beside(self, generation: Generation, part: int) -> Path:
        """Where that copy is written before it is published."""
        return self.path(generation, part).with_suffix(".tmp")

    def make(self) -> None:
        """Make the folder, which this user alone can read."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def publish(self, generation: Generation, part: int, size: int, sha256: str) -> None:
        """Make what was written beside a copy, its record last."""
        path = self.path(generation, part)
        content = {**asdict(self.owner), "generation": generation.values, "part": part, "bytes": size, "sha256": sha256}
        os.replace(self.beside(generation, part), path)
        write_atomic(path.with_suffix(".json"), json.dumps({"content": content, "sha256": sha256_text(canonical(content))}))

    def found(self) -> dict[Generation, list[int]]:
        """The parts that are here, by generation; what belongs to another owner, and what has no whole record, is none."""
        out: dict[Generation, list[int]] = {}
        for path in sorted(self.folder.glob("*.json")):
            content = self._record(path)
            if content is not None:
                out.setdefault(Generation(*content["generation"]), []).append(int(content["part"]))
        return out

    def _record(self, path: Path) -> dict[str, Any] | None:
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            content: dict[str, Any] = said["content"]
            if sha256_text(canonical(content)) != said["sha256"]:
                return None
            own = self.path(Generation(*content["generation"]), content["part"]).with_suffix(".json")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        ours = all(content.get(key) == value for key, value in asdict(self.owner).items())
        return content if ours and path == own else None

    def described(self, generation: Generation, part: int) -> tuple[int, str] | None:
        """(bytes, sha256) by its record."""
        content = self._record(self.path(generation, part).with_suffix(".json"))
        return None if content is None else (int(content["bytes"]), str(content["sha256"]))

    def intact(self, generation: Generation, part: int) -> bool:
        path, said = self.path(generation, part), self.described(generation, part)
        try:
            return said is not None and path.stat().st_size == said[0] and sha256_file(path) == said[1]
        except OSError:
            return False

    def keep_newest(self, part: int) -> None:
        """Delete all copies of `part` but those of the newest generations."""
        mine = sorted(generation for generation, parts in self.found().items() if part in parts)
        for generation in mine[:-GENERATIONS]:
            self._remove(self.path(generation, part))

    def clear(self, but: Generation | None = None) -> None:
        """Delete everything, or all but one generation: also what is half written, damaged, or another owner's."""
        if but is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        kept = {self.path(but, part).stem for part in self.found().get(but, [])}
        for path in self.folder.glob("*"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def drop(self, generation: Generation, part: int) -> None:
        """Delete what was written beside that copy."""
        self.beside(generation, part).unlink(missing_ok=True)

    @staticmethod
    def _remove(path: Path) -> None:
        path.with_suffix(".json").unlink(missing_ok=True)  # first: a kill in between leaves no copy that looks whole
        path.unlink(missing_ok=True)
