"""Exact deduplication of normalised texts."""

from __future__ import annotations

import hashlib


class Deduplicator:
    """Remembers the texts it has seen; the first of several equal documents is kept."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def twin(self, id_: str, text: str) -> str | None:
        """The id of an earlier document with the same text up to case and white space, or None. Remembers the text."""
        key = hashlib.sha256(" ".join(text.lower().split()).encode()).digest()
        first = self._seen.get(key)
        if first is None:  # ids are not compared: a row that occurs twice in a file has the same id both times
            self._seen[key] = id_
        return first
