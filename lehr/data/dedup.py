"""Exact deduplication of normalised texts."""

from __future__ import annotations

import hashlib


class Deduplicator:
    """Remembers what it has seen; the first of several equal documents stays."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def twin(self, id_: str, text: str) -> str | None:
        """The id of the earlier document with the same text but for case and white space, or None, and remember it."""
        key = hashlib.sha256(" ".join(text.lower().split()).encode()).digest()
        first = self._seen.get(key)
        if first is None:  # not by comparing ids: a row that stands in a file twice has the same id both times
            self._seen[key] = id_
        return first
