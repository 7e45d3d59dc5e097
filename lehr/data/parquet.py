"""Parquet files that somebody supplied, a bounded batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lehr.data.damage import Damaged, Met, stop
from lehr.runtime.errors import UserError

ROWS = 256  # of a batch, at most
_REPEATED = 64 << 20  # bytes that a batch may hold by repeating values of dictionaries
_BOMB = 1000  # times as large as in the file: no column of texts is compressed so well
_REMEDY = "fetch or write the file again"


@contextmanager
def opened(path: Path, shown: str) -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile. Raises UserError where pyarrow is not installed and for a missing file, Damaged for a
    damaged one, whichever of its users' reads finds that."""
    if find_spec("pyarrow") is None:
        raise UserError("Parquet files need pyarrow", where=shown, remedy="pip install 'lehr[parquet]', or write JSON lines")
    from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with _damage(shown, stop):
        try:
            # Not pre_buffer, which reads a whole row group at once.
            file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except FileNotFoundError:
            raise UserError("no such data file", where=shown, remedy="correct `path`, relative to the recipe") from None
        with file:
            yield file


def batches(file: Any, path: Path, shown: str, columns: list[str] | None = None, met: Met = stop) -> Iterator[tuple[int, Any]]:
    """Batches of rows of an open file, each with the number of rows before it in the file. `columns` are names of columns, or
    paths of leaves. Damage within a row group is `met`, and the rest of the group passed over if that returns."""
    before = 0
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        at = before
        with _damage(f"{shown}: row group {group + 1}", met):
            size = _batch_rows(about, path, f"{shown}: row group {group + 1}", columns)
            for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=columns):
                yield at, batch
                at += batch.num_rows
        before += about.num_rows


@contextmanager
def _damage(where: str, met: Met) -> Iterator[None]:
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        met(Damaged("damaged file", f"damaged Parquet file ({error})", where=where, remedy=_REMEDY))
    except Damaged as damage:
        met(damage)


def _batch_rows(group: Any, path: Path, where: str, columns: list[str] | None) -> int:
    """Rows of a batch such that what they repeat of the group's dictionaries stays within `_REPEATED` bytes. Raises Damaged for
    a decompression bomb."""
    largest = 0
    for number in range(group.num_columns):
        column = group.column(number)
        name = column.path_in_schema
        if columns is not None and not any(name == wanted or name.startswith(f"{wanted}.") for wanted in columns):
            continue
        unpacked = column.total_uncompressed_size
        if unpacked > _REPEATED and unpacked > _BOMB * max(column.total_compressed_size, 1):
            what = f"column {name} unpacks to {unpacked >> 20} MiB, {_BOMB} times its size in the file and more"
            raise Damaged("decompression bomb", what, where=where, remedy=_REMEDY)
        if column.has_dictionary_page and column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            largest += _dictionary_size(path, column.dictionary_page_offset, unpacked)
    return max(1, min(ROWS, _REPEATED // max(largest, 1)))


def _dictionary_size(path: Path, offset: int, otherwise: int) -> int:
    """Bytes of the dictionary page at `offset`, unpacked, by its header (Thrift's compact protocol: the page's type, then its
    size, both as zigzag varints); `otherwise` if no such header stands there."""
    with path.open("rb") as file:
        file.seek(offset)
        begins = file.read(9)
    if begins[:3] != b"\x15\x04\x15":
        return otherwise
    value = shift = 0
    for byte in begins[3:]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value >> 1
    return otherwise
