"""Masking secrets from environment variables in everything that is printed or written."""

from __future__ import annotations

import os
import re

_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]*:?[^/\s'\"]*@(?=[^\s/@])")
_NAMED = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIALS?)(_[A-Z0-9]+)?$")
_SHORTEST = 6  # a shorter value occurs in texts by chance
_MASK = "***"


def masked(text: str) -> str:
    """`text` without user and password in URLs, and without the values of variables whose names mark them as secrets."""
    hidden = _IN_URL.sub(f"{_MASK}@", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAMED.search(name.upper()) and value in hidden:
            hidden = hidden.replace(value, _MASK)
    return hidden
