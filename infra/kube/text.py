"""Text of other people, for logs and for what is written on objects."""

from __future__ import annotations

from typing import Any


def plain(text: Any, limit: int = 500) -> str:
    """What a pod wrote, as one printable line: nothing that moves a cursor, no half characters, no novel."""
    short = str(text)[:limit]
    return (short if short.isprintable() else "".join(c if c.isprintable() else " " for c in short)).strip()
