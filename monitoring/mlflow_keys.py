"""Names and values as MLflow takes them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping

_PARAM_CHARACTERS, _KEY_CHARACTERS = 6000, 250


def key_of(name: str) -> str:
    """`name` as MLflow takes a key: a clean path of letters, digits and `_.-: /`. One that had to be changed ends in a hash, so
    that no two become one."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    clean = "/".join(parts)
    if clean == name and len(name) <= _KEY_CHARACTERS:
        return name
    return f"{clean[: _KEY_CHARACTERS - 9].rstrip('/')}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def metric_key(name: str) -> str:
    """The key of a metric. Of one that is about a part, `X@PART` (`lehr.runtime.metrics`), a colon stands before the part:
    MLflow takes no @."""
    return key_of(name.replace("@", ":"))


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys with text values, cut to what MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[key_of(name)] = str(value)[:_PARAM_CHARACTERS]
    return flat


def now_ms() -> int:
    return int(time.time() * 1000)
