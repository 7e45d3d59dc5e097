"""Names and values in the form that MLflow accepts."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping

_PARAM_CHARACTERS, _KEY_CHARACTERS = 6000, 250


def key_of(name: str) -> str:
    """`name` as a valid key of MLflow: a path of letters, digits and `_.-: /`. A changed name ends in a hash, so that two names
    never become the same key."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    clean = "/".join(parts)
    if clean == name and len(name) <= _KEY_CHARACTERS:
        return name
    return f"{clean[: _KEY_CHARACTERS - 9].rstrip('/')}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def metric_key(name: str) -> str:
    """A metric's key. MLflow does not allow @: a metric of a part, `X@PART` (`lehr.runtime.metrics`), becomes `X:PART`."""
    return key_of(name.replace("@", ":"))


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys with text values, cut to MLflow's maximum length."""
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
