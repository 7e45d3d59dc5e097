"""Parquet: a document of each row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from lehr.config.sources import Format, RowFields
from lehr.data.damage import Damaged
from lehr.data.document import Document
from lehr.data.lines import LONGEST
from lehr.data.parquet import batches, opened
from lehr.data.readers.reading import Reading, too_long
from lehr.data.readers.rows import document


def documents(reading: Reading, found: Format) -> Iterator[Document]:
    """Raises UserError where pyarrow is missing, Damaged for a file that cannot be read, or has no column of the text."""
    shown, fields = reading.input.where, reading.source.fields
    with opened(reading.path, shown) as file:
        columns = _columns(file.schema_arrow, fields)
        if not any(fields.text in (name, name.partition(".")[0]) or fields.text.startswith(f"{name}.") for name in columns):
            remedy = (
                f"name the column of the text in the source's fields.text; it has {', '.join(file.schema_arrow.names)[:300]}"
            )
            raise Damaged("no text", f"no column `{fields.text}`", where=shown, remedy=remedy)
        for before, batch in batches(file, reading.path, shown, columns, reading.damage.met):
            for at in range(batch.num_rows):
                number = before + at + 1
                where = f"{shown}: row {number}"
                try:
                    made = document(reading, _row(batch, at, where), number, where)
                except Damaged as error:
                    reading.damage.met(error)
                    continue
                yield made


def _columns(schema: Any, fields: RowFields) -> list[str]:
    """The columns to read, by their leaves: those of the fields, and small values that may be metadata. Lists, which have any
    number of values a row, are not unless a field is one."""
    from pyarrow import types  # type: ignore[import-not-found, import-untyped, unused-ignore]

    named = fields.model_dump().values()
    wanted = []
    for field in schema:
        if types.is_struct(field.type):
            wanted += [f"{field.name}.{inner.name}" for inner in field.type if not types.is_nested(inner.type)]
            wanted += [name for name in named if name.startswith(f"{field.name}.") and name not in wanted]
        elif not types.is_nested(field.type) or field.name in named:
            wanted.append(field.name)
    return wanted


def _row(batch: Any, at: int, where: str) -> dict[str, Any]:
    """One row as JSON has it. Raises Damaged for a value that is too long, before it is copied, or not UTF-8."""
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        value = column[at]
        if hasattr(value, "as_buffer") and value.is_valid and value.as_buffer().size > LONGEST:
            raise too_long(where)
        try:
            row[name] = _plain(value.as_py())
        except UnicodeDecodeError as error:
            what = f"invalid UTF-8 at byte {error.start} of `{name}`"
            raise Damaged("not UTF-8", what, where=where, remedy="write the file again, with texts as UTF-8") from None
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
