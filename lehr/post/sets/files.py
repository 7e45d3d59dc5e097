"""The rows of supplied files: JSON lines (plain, gzip, bzip2, xz), JSON lists, Parquet; one file, a folder, or a pattern."""

from __future__ import annotations

import json
from collections.abc import Iterator
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lehr.data.lines import lines
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


def files_of(path: str, split: str) -> list[Path]:
    """The files that `path` names, in order of their names. In a folder, those whose names say another split than `split` are
    left out (train-00000-of-00002.parquet, data/test.jsonl). Raises UserError if there are none."""
    place = Path(path)
    if has_magic(path):
        anchor = Path(place.anchor or ".")
        found = [p for p in anchor.glob(str(place.relative_to(place.anchor))) if p.is_file() and _data(p)]
    elif place.is_dir():
        found = [p for p in place.rglob("*") if p.is_file() and _data(p) and not _hidden(p.relative_to(place))]
        named = [p for p in found if _says(p, place, split)]
        found = named or [p for p in found if not any(_says(p, place, other) for other in _SPLITS if other != split)]
    else:
        return [place]  # whoever reads it says what is wrong with it
    if not found:
        ends = ", ".join(_ENDS)
        raise UserError("no data files", where=path, remedy=f"name a file, or a folder with files of split {split!r} ({ends})")
    return sorted(found)


_SPLITS = ("train", "test", "validation", "valid", "dev", "eval")


def _data(path: Path) -> bool:
    return path.name.lower().endswith(_ENDS) and path.name not in ("dataset_info.json", "dataset_infos.json", "state.json")


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _says(path: Path, folder: Path, split: str) -> bool:
    """Whether a file's name, or that of a folder between it and `folder`, begins with the split's name."""
    relative = path.relative_to(folder)
    return any(part == split or part.startswith((f"{split}-", f"{split}.", f"{split}_")) for part in relative.parts)


def rows(path: Path) -> Iterator[Row]:
    """The rows of one file. Raises UserError, naming file and line, for what is no JSON object, for broken UTF-8, and for files
    that are missing, damaged or of another kind."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _parquet(path)
    elif name.endswith(".json") and _is_list(path):
        for number, values in enumerate(read_objects(path, _REMEDY), 1):
            yield Row(f"{path}: row {number}", number, values)
    else:
        for number, raw in lines(path):
            where = f"{path}:{number}"
            yield Row(where, number, object_in(raw, where, _REMEDY))


def _is_list(path: Path) -> bool:
    """Whether the first character that is no blank opens a list. False for what cannot be read, which `lines` reports."""
    try:
        with path.open("rb") as file:
            begins = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return begins.startswith(b"[")


def _parquet(path: Path) -> Iterator[Row]:
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
                    yield Row(f"{path}: row {number}", number, {key: v for key, v in values.items() if v is not None})
    except FileNotFoundError:
        raise UserError("no such data file", where=path, remedy="correct `path`, relative to the recipe") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"damaged Parquet file ({error})", where=path, remedy="fetch or write the file again") from None


def text_of(values: Any) -> str:
    """A row's beginning, for a record of why it was dropped."""
    return json.dumps(values, ensure_ascii=False, default=str)[:300]
