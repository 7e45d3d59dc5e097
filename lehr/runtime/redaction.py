"""Secrets of the environment, kept out of everything that is printed or written down."""

from __future__ import annotations

import os
import re

_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]*:?[^/\s'\"]*@(?=[^\s/@])")
_NAMED = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIALS?)(_[A-Z0-9]+)?$")
_SHORTEST = 6  # a shorter value stands in texts by chance
_MASK = "***"


def masked(text: str) -> str:
    """`text` without the user and password of any address, and without the values of variables that are named as secrets."""
    hidden = _IN_URL.sub(f"{_MASK}@", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAMED.search(name.upper()) and value in hidden:
            hidden = hidden.replace(value, _MASK)
    return hidden
