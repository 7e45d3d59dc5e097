"""Texts from outside, for logs and for what is written to objects."""

from __future__ import annotations

from typing import Any


def plain(text: Any, limit: int = 500) -> str:
    """`text` as one short printable line: without control characters and incomplete surrogates."""
    short = str(text)[:limit]
    return (short if short.isprintable() else "".join(c if c.isprintable() else " " for c in short)).strip()
