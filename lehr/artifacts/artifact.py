"""Artifacts: what a stage hands to the next. A folder whose `artifact.json` is written last; complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from lehr.runtime.errors import UserError
from lehr.runtime.paths import is_address, is_relative

MANIFEST = "artifact.json"
STABILITY = "stability.json"  # under LOGS: what a training stage says of its steadiness
LOGS = "logs"  # files under this folder are kept and hashed, but are not part of the digest: they hold wall times

Kind = Literal["documents", "tokenizer", "shards", "checkpoint", "preferences", "scores", "export", "report"]


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
    """What tasks pass to each other: a pointer and a promise of content, never weights."""

    uri: Annotated[str, AfterValidator(_address)]
    digest: str
    kind: Kind
    stage: str


class FileRecord(_Model):
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


class Cost(_Model):
    """What making an artifact took, over all attempts. Energy is of the machine's parts that worked for the stage."""

    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0
    energy_joules: float = 0.0
    energy_source: str = "none"
    processes: int = 1


class Manifest(_Model):
    """The content of `artifact.json`."""

    kind: Kind
    stage: str
    stage_kind: str = ""  # what made it: a name in lehr.pipeline.registry
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
    """JSON without spaces, its keys sorted unless their order means something: equal values give equal texts."""
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write beside, flush to the disk, rename: a reader sees the old text or the new one."""
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, flush it to the disk and rename it to `path`: complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with beside.open("rb") as f:
            os.fsync(f.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _content_digest(kind: str, files: dict[str, FileRecord], meta: dict[str, Any], parents: Iterable[ArtifactRef]) -> str:
    """Names what the artifact *is*: content and ancestry, without times, costs or places."""
    content = {name: record.sha256 for name, record in files.items() if not name.startswith(f"{LOGS}/")}
    return sha256_text(canonical({"kind": kind, "files": content, "meta": meta, "parents": [p.digest for p in parents]}))


class Artifact:
    """A complete artifact on a local folder: its manifest, its files, and its ancestors. `uri` is where others find it, which
    is not the folder where that is a copy."""

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
        """Hash every file under `folder` and write the manifest last."""
        for leftover in folder.rglob(".*.tmp"):  # of a `write_atomic` that was killed: it must not enter the digest
            leftover.unlink()
        files: dict[str, FileRecord] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
            with path.open("rb") as f:  # the manifest must not reach the disk before what it vouches for
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
        """Open a complete artifact. `verify` re-hashes every file: a truncated or altered one raises UserError."""
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise UserError("no artifact here", where=folder, remedy=f"give a folder that holds an {MANIFEST}")
        try:
            manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise UserError(f"damaged manifest ({error.errors()[0]['msg']})", where=path, remedy=REPEAT) from None
        except ValueError as error:  # no UTF-8
            raise UserError(f"damaged manifest ({str(error).splitlines()[0]})", where=path, remedy=REPEAT) from None
        artifact = cls(folder, manifest, uri)
        if verify:
            artifact.verify()
        return artifact

    def verify(self) -> None:
        """Compare every file's size and SHA-256, and the digest over them, with the manifest, and refuse a file that it does
        not list: a reader might take what lies beside. Hidden files are a file manager's or a file server's, logs nobody's
        input. Raises UserError that names the first file that differs."""
        for name, record in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
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
        """The parents that can still be found: at their uri, or beside this artifact after a move or where it is a copy."""
        found = []
        for ref in self.manifest.parents:
            for place in (Path(ref.uri), self.folder.parent / Path(ref.uri).name):
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


def fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
