"""The rows of supplied files: JSON lines (plain, gzip, bzip2, xz), JSON lists, Parquet; one file, a folder, or a pattern, on
this machine or in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from lehr.artifacts.artifact import sha256_file
from lehr.data.lines import lines
from lehr.data.remote_files import remote_files, scheme_of
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in, read_objects

_ENDS = (".jsonl", ".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".ndjson", ".json", ".parquet")
_REMEDY = 'write one JSON object a line, such as {"messages": [...]}'
_BATCH = 256  # rows of a Parquet file in memory at once


class Row(NamedTuple):
    """A row as it stands in its file. `where` names file and line, or the row's number; `number` counts from 1 in its file."""

    where: str
    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class DataFile:
    """A supplied file. `where` is its path or its address, as messages name it; of an object, `version` tells its content."""

    where: str
    version: str = ""

    def local(self) -> Path:
        """A path to read it from: its own, or that of a copy, which is fetched if it is not here yet."""
        return remote_files(self.where).fetch(self.where, self.version) if self.version else Path(self.where)

    def digest(self) -> str:
        """What tells its content: SHA-256, or the store's word, for which no object is fetched; nothing of a missing file."""
        if self.version:
            return self.version
        path = Path(self.where)
        return sha256_file(path) if path.is_file() else ""  # whoever reads it says what is wrong


def files_of(path: str, split: str) -> list[DataFile]:
    """The files that `path` names, in order of their names. In a folder, those whose names say another split than `split` are
    left out (train-00000-of-00002.parquet, data/test.jsonl). Raises UserError if there are none, or as the store does."""
    found = _in_store(path, split) if scheme_of(path) else _on_disk(path, split)
    if not found:
        ends = ", ".join(_ENDS)
        raise UserError("no data files", where=path, remedy=f"name a file, or a folder with files of split {split!r} ({ends})")
    return found


def _on_disk(path: str, split: str) -> list[DataFile]:
    place = Path(path)
    if has_magic(path):
        anchor = Path(place.anchor or ".")
        found = [p for p in anchor.glob(str(place.relative_to(place.anchor))) if p.is_file() and _data(p.name)]
    elif place.is_dir():
        inside = {p: p.relative_to(place).parts for p in place.rglob("*") if p.is_file()}
        found = _of_split(inside, split)
    else:
        found = [place]  # whoever reads it says what is wrong with it
    return [DataFile(str(p)) for p in sorted(found)]


def _in_store(address: str, split: str) -> list[DataFile]:
    """As on disk; a folder is what lies below its name and a slash, and `*` and `?` of a pattern stop at none."""
    address = address.rstrip("/")
    literal = address[: next((i for i, c in enumerate(address) if c in "*?["), len(address))]
    versions = remote_files(address).versions(literal)
    if literal != address:
        found = [at for at in versions if fnmatchcase(at, address) and _data(at)]
    elif address in versions:
        found = [address]
    else:
        folder = f"{address}/"
        inside = {at: PurePosixPath(at.removeprefix(folder)).parts for at in versions if at.startswith(folder)}
        found = _of_split(inside, split)
    return [DataFile(at, versions[at]) for at in sorted(found)]


F = TypeVar("F")
_SPLITS = ("train", "test", "validation", "valid", "dev", "eval")


def _of_split(inside: Mapping[F, tuple[str, ...]], split: str) -> list[F]:
    """Of files, with the parts of their paths in a folder, the data files of `split`: those that name it, or else those that
    name no other."""
    data = [f for f, parts in inside.items() if _data(parts[-1]) and not any(part.startswith(".") for part in parts)]
    named = [f for f in data if _says(inside[f], split)]
    return named or [f for f in data if not any(_says(inside[f], other) for other in _SPLITS if other != split)]


def _data(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.lower().endswith(_ENDS) and last not in ("dataset_info.json", "dataset_infos.json", "state.json")


def _says(parts: tuple[str, ...], split: str) -> bool:
    """Whether a file's name, or that of a folder on the way to it, begins with the split's name."""
    return any(part == split or part.startswith((f"{split}-", f"{split}.", f"{split}_")) for part in parts)


def rows(file: DataFile) -> Iterator[Row]:
    """The rows of one file. Raises UserError, naming file and line, for what is no JSON object, for broken UTF-8, and for files
    that are missing, damaged or of another kind."""
    path, name = file.local(), file.where.lower()
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path, file.where)
        elif name.endswith(".json") and _is_list(path):
            for number, values in enumerate(read_objects(path, _REMEDY), 1):
                yield Row(f"{file.where}: row {number}", number, values)
        else:
            for number, raw in lines(path):
                where = f"{file.where}:{number}"
                yield Row(where, number, object_in(raw, where, _REMEDY))
    except UserError as error:
        # Of a copy its user knows nothing.
        where = error.where.replace(str(path), file.where)
        raise UserError(error.what, where=where, remedy=error.remedy) from None


def _is_list(path: Path) -> bool:
    """Whether the first character that is no blank opens a list. False for what cannot be read, which `lines` reports."""
    try:
        with path.open("rb") as file:
            begins = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return begins.startswith(b"[")


def _parquet(path: Path, shown: str) -> Iterator[Row]:
    """A Parquet file's rows, a batch at a time."""
    if find_spec("pyarrow") is None:
        raise UserError("Parquet files need pyarrow", where=path, remedy="pip install 'lehr[parquet]', or write JSON lines")
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{shown}: row {number}", number, {key: v for key, v in values.items() if v is not None})
    except FileNotFoundError:
        raise UserError("no such data file", where=path, remedy="correct `path`, relative to the recipe") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"damaged Parquet file ({error})", where=path, remedy="fetch or write the file again") from None


def text_of(values: Any) -> str:
    """A row's beginning, for a record of why it was dropped."""
    return json.dumps(values, ensure_ascii=False, default=str)[:300]
