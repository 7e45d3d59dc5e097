"""What a document's metadata says of it."""

from __future__ import annotations

import math

from lehr.data.document import Document


def number(document: Document, key: str) -> float | None:
    """The number under `key`, also one written as text. None if there is none."""
    value = document.metadata.get(key)
    try:
        found = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(document: Document, key: str) -> str:
    """The text under `key`, or ""."""
    value = document.metadata.get(key)
    return value if isinstance(value, str) else ""
