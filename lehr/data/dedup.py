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
        first = self._seen.setdefault(key, id_)
        return None if first == id_ else first
