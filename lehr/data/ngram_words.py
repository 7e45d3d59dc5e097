"""Words as decontamination counts them."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation."""
    return _TOKEN.findall(text.lower())
