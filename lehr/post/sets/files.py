"""The rows of supplied files: JSON lines (plain, gzip, bzip2, xz, Zstandard), JSON lists, Parquet; one file, a folder, or a
pattern, on this machine or in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lehr.data.compressed import COMPRESSED
from lehr.data.lines import lines
from lehr.data.parquet import batches, opened
from lehr.data.supplied import NO_DATA, DataFile, of_split, supplied
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in, read_objects

_ENDS = (".jsonl", *(f".jsonl{end}" for end in COMPRESSED), ".ndjson", ".json", ".parquet")
_REMEDY = 'write one JSON object a line, such as {"messages": [...]}'


class Row(NamedTuple):
    """A row as it stands in its file. `where` names file and line, or the row's number; `number` counts from 1 in its file."""

    where: str
    number: int
    values: dict[str, Any]


def files_of(path: str, split: str) -> list[DataFile]:
    """The files that `path` names, in order of their names. In a folder, those whose names say another split than `split` are
    left out (train-00000-of-00002.parquet, data/test.jsonl). Raises UserError if there are none, or as the store does."""
    found = supplied(path, lambda inside: of_split(_data(inside), split), lambda inside: list(_data(inside)))
    if not found:
        ends = ", ".join(_ENDS)
        raise UserError("no data files", where=path, remedy=f"name a file, or a folder with files of split {split!r} ({ends})")
    return found


def _data(inside: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {n: parts for n, parts in inside.items() if parts[-1].lower().endswith(_ENDS) and parts[-1] not in NO_DATA}


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
    with opened(path, shown) as file:
        for before, batch in batches(file, path, shown):
            for number, values in enumerate(batch.to_pylist(), before + 1):
                yield Row(f"{shown}: row {number}", number, {key: v for key, v in values.items() if v is not None})


def text_of(values: Any) -> str:
    """A row's beginning, for a record of why it was dropped."""
    return json.dumps(values, ensure_ascii=False, default=str)[:300]
