"""Rows as documents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lehr.config.sources import RowFields
from lehr.data.document import Document
from lehr.data.readers.languages import language_of
from lehr.data.readers.reading import Reading
from lehr.data.rows import no_text, unicode

_LONGEST_VALUE = 300  # characters of a text that is kept as metadata
_MOST_VALUES = 64
_LARGEST = 1 << 63  # whole numbers below it are kept: what tables of 64 bits hold


def document(reading: Reading, row: Mapping[str, Any], number: int, where: str) -> Document:
    """The document of a row, the `number`th line of its file. Raises Damaged for one without a text, and as `Reading.document`
    does."""
    fields = reading.source.fields
    text = valued(row, fields.text)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")  # what is not UTF-8 is found as a lone surrogate
    if not isinstance(text, str):
        raise no_text(fields.text, where)
    known = {"url": valued(row, fields.url), "license": _license(valued(row, fields.license))}
    known = {key: unicode(value, key, where) for key, value in known.items() if isinstance(value, str)}
    language = valued(row, fields.language)
    id_ = valued(row, fields.id)
    own = "" if id_ is None else unicode(str(id_), "id", where)
    kept = dict(_metadata(row, fields, ("language",) if not language_of(language) else ()))
    # Chunks of a document with an empty id would count as without a parent, and could go to different splits.
    name = own if own.strip() else reading.id(number)
    return reading.document(name, text, where, language=language_of(language), metadata=kept, **known)


def valued(row: Mapping[str, Any], key: str) -> Any:
    """The value of `key`, which may be a path into objects; None if there is none."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _license(value: Any) -> str:
    """One name; of a list, as The Stack has them, all hold."""
    if isinstance(value, list):
        return " AND ".join(sorted({name for name in value if isinstance(name, str) and name}))
    return value if isinstance(value, str) else ""


def _metadata(row: Mapping[str, Any], fields: RowFields, kept_too: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The small values of a row that no field of the document has; those of an object in it as `meta.stars`."""
    used = {name for key, name in fields.model_dump().items() if key not in kept_too}
    left = _MOST_VALUES
    for key, value in _flat(row):
        if key in used or not left or not _is_small(value) or not _is_small(key):
            continue
        left -= 1
        yield key, value


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", v) for inner, v in value.items())
        else:
            yield key, value


def _is_small(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_LARGEST <= value < _LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE and value.isprintable()
