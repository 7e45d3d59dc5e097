"""Artifacts: the results of stages. A folder is complete once its `artifact.json`, which is written last, exists."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from lehr.artifacts.elsewhere import left_out
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.paths import is_address, is_relative

MANIFEST = "artifact.json"
STABILITY = "stability.json"  # under LOGS: a training stage's spike scores
LOGS = "logs"  # files under it are kept and hashed, but left out of the digest: they hold wall times, which differ at every run

Kind = Literal[
    "text_model",
    "documents",
    "tokenizer",
    "shards",
    "checkpoint",
    "conversations",
    "preferences",
    "prompts",
    "reward",
    "scores",
    "export",
    "report",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _address(uri: str) -> str:
    if not is_address(uri):
        raise ValueError(f"{uri!r} leads out of its store")
    return uri


def _inside(path: str) -> str:
    if not is_relative(path):
        raise ValueError(f"a file's name leads out of its folder: {path!r}")
    return path


class ArtifactRef(_Model):
    """What Flyte tasks pass to each other: an artifact's address and the digest of its content, never weights."""

    uri: Annotated[str, AfterValidator(_address)]
    digest: str
    kind: Kind
    stage: str


class FileRecord(_Model):
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


class Cost(_Model):
    """What making an artifact took, over all attempts and machines. Energy: IT energy of what worked for the stage; `energy`
    holds it by source, `energy_source` names these (lehr.runtime.energy.label), `energy_gaps` says what is missing."""

    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0
    energy_joules: float = 0.0
    energy_source: str = "none"
    energy: dict[str, float] = {}
    energy_gaps: list[str] = []
    processes: int = 1
    machines: int = 1
    attempts: int = 1


class Manifest(_Model):
    """The content of `artifact.json`."""

    kind: Kind
    stage: str
    stage_kind: str = ""  # a name in lehr.pipeline.registry
    digest: str
    fingerprint: str
    parents: list[ArtifactRef]
    config: dict[str, Any]
    code: str
    files: dict[Annotated[str, AfterValidator(_inside)], FileRecord]
    meta: dict[str, Any]
    cost: Cost


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical(value: object, *, sort_keys: bool = True) -> str:
    """JSON without spaces, with sorted keys unless their order is significant: equal values give equal texts."""
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write to a temporary file, fsync, rename: a reader sees the old text or the new one."""
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, fsync it and rename it to `path`: complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder, since a rename is atomic only within a file system; with the pid, since two processes may write at once.
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with beside.open("rb") as f:
            os.fsync(f.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _content_digest(kind: str, files: dict[str, FileRecord], meta: dict[str, Any], parents: Iterable[ArtifactRef]) -> str:
    """The digest that identifies an artifact's content and ancestry, without times, costs or addresses."""
    content = {name: record.sha256 for name, record in files.items() if not name.startswith(f"{LOGS}/")}
    return sha256_text(canonical({"kind": kind, "files": content, "meta": meta, "parents": [p.digest for p in parents]}))


class Artifact:
    """A complete artifact in a local folder: its manifest, its files, and its ancestors. `uri` is its address for others, which
    differs from the folder if the folder is a local copy."""

    def __init__(self, folder: Path, manifest: Manifest, uri: str = "") -> None:
        self.folder, self.manifest, self.uri = folder, manifest, uri or str(folder)

    @classmethod
    def seal(
        cls,
        folder: Path,
        *,
        kind: Kind,
        stage: str,
        fingerprint: str,
        parents: list[ArtifactRef],
        config: dict[str, Any],
        code: str,
        meta: dict[str, Any],
        cost: Cost,
        stage_kind: str = "",
    ) -> Artifact:
        """Hash every file under `folder` and write the manifest last. Raises OSError if the disk refuses."""
        for leftover in folder.rglob(".*.tmp"):  # of a `write_atomic` that was killed: it must not be hashed
            leftover.unlink()
        files: dict[str, FileRecord] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
            with path.open("rb") as f:  # a manifest on disk must never list a file whose data is not there yet
                os.fsync(f.fileno())
            files[path.relative_to(folder).as_posix()] = FileRecord(bytes=path.stat().st_size, sha256=sha256_file(path))
        manifest = Manifest(
            kind=kind,
            stage=stage,
            stage_kind=stage_kind,
            digest=_content_digest(kind, files, meta, parents),
            fingerprint=fingerprint,
            parents=parents,
            config=config,
            code=code,
            files=files,
            meta=meta,
            cost=cost,
        )
        write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=1))
        fsync_folder(folder)
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True, uri: str = "") -> Artifact:
        """Open a complete artifact. `verify` hashes every file again. Raises UserError if the manifest is missing or damaged,
        or if a file is truncated or altered."""
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise UserError("no artifact here", where=folder, remedy=f"give a folder that holds an {MANIFEST}")
        try:
            manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise UserError(
                f"damaged manifest ({validators_words(error.errors()[0]['msg'])})", where=path, remedy=REPEAT
            ) from None
        except ValueError as error:  # no UTF-8
            raise UserError(f"damaged manifest ({str(error).splitlines()[0]})", where=path, remedy=REPEAT) from None
        artifact = cls(folder, manifest, uri)
        if verify:
            artifact.verify()
        return artifact

    def verify(self) -> None:
        """Compare every file's size and SHA-256, and the digest over them, with the manifest, and refuse files that it does not
        list: a reader that globs the folder might take them for its own. Hidden files (of file managers and file servers) and
        logs are exempt, as no stage reads them; so are files that a copy has left in its store (lehr.artifacts.elsewhere),
        which are checked as they are read. Raises UserError for the first file that differs."""
        for name, record in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
                if left_out(self.folder, name, record.sha256):
                    continue
                raise UserError("a file of this artifact is missing", where=path, remedy=REPEAT)
            if path.stat().st_size != record.bytes:
                found = path.stat().st_size
                raise UserError(f"file truncated or grown: {found} bytes instead of {record.bytes}", where=path, remedy=REPEAT)
            if sha256_file(path) != record.sha256:
                raise UserError("file altered: its SHA-256 differs from the manifest's", where=path, remedy=REPEAT)
        self._refuse_unlisted()
        m = self.manifest
        if _content_digest(m.kind, m.files, m.meta, m.parents) != m.digest:
            raise UserError("manifest altered: its digest differs", where=self.folder / MANIFEST, remedy=REPEAT)

    def _refuse_unlisted(self) -> None:
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            unread = inside.parts[0] in (MANIFEST, LOGS) or any(part.startswith(".") for part in inside.parts)
            if not unread and inside.as_posix() not in self.manifest.files and (path.is_symlink() or not path.is_dir()):
                what = "a file that this artifact was not sealed with"
                raise UserError(what, where=path, remedy="move it out of this folder")

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def ref(self) -> ArtifactRef:
        m = self.manifest
        return ArtifactRef(uri=self.uri, digest=m.digest, kind=m.kind, stage=m.stage)

    def expect(self, kind: Kind) -> Artifact:
        """This artifact. Raises UserError if it is of another kind."""
        if self.manifest.kind != kind:
            what = f"this is a {self.manifest.kind} artifact, not a {kind}"
            raise UserError(what, where=self.folder, remedy=f"give a {kind}")
        return self

    def parents(self) -> list[Artifact]:
        """The parents that can still be found: beside this artifact, where they are in a run that was moved or copied too (a
        copy answers for its own files, not for the original's), or at their uri."""
        found = []
        for ref in self.manifest.parents:
            for place in (self.folder.parent / Path(ref.uri).name, Path(ref.uri)):
                if (place / MANIFEST).is_file():
                    parent = Artifact.open(place, verify=False, uri=ref.uri if "://" in ref.uri else "")
                    if parent.manifest.digest == ref.digest:
                        found.append(parent)
                        break
        return found

    def lineage(self) -> list[Artifact]:
        """This artifact and all ancestors, each once, ancestors first."""
        seen: dict[str, Artifact] = {}

        def visit(artifact: Artifact) -> None:
            if artifact.manifest.digest not in seen:
                for parent in artifact.parents():
                    visit(parent)
                seen[artifact.manifest.digest] = artifact

        visit(self)
        return list(seen.values())


REPEAT = "delete this artifact's folder and run the same command again: only this stage is repeated"


# Without an fsync of the folder a rename in it may be lost at a power failure, although the file's data is on disk.
def fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
