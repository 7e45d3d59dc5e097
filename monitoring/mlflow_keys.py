"""Names and values in the form that MLflow accepts, and which of them had to be changed for that."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from lehr.runtime.redaction import masked
from lehr.runtime.text import visible

PARAM_CHARACTERS, KEY_CHARACTERS, TAG_CHARACTERS = 6000, 250, 8000  # MLflow's limits
_NEWS = 10  # lines about changed names and values in one run
_LISTED = 5  # in such a line
_SHOWN = 60  # characters of a name in such a line


@lru_cache(maxsize=4096)  # asked for each point
def key_of(name: str) -> str:
    """`name` as a valid key of MLflow: a path of letters, digits and `_.-: /`. A changed name ends in a hash, so that two names
    never become the same key."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    clean = "/".join(parts)
    if clean == name and len(name) <= KEY_CHARACTERS:
        return name
    return f"{clean[: KEY_CHARACTERS - 9].rstrip('/')}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def metric_name(name: str) -> str:
    """MLflow does not allow @: a metric of a part, `X@PART` (`lehr.runtime.metrics`), becomes `X:PART`."""
    return name.replace("@", ":")


@lru_cache(maxsize=4096)
def metric_key(name: str) -> str:
    """A metric's key."""
    return key_of(metric_name(name))


def number(value: object) -> float | None:
    """`value` as MLflow stores metrics; None if it is no number. NaN and infinities are numbers: MLflow keeps the former as it
    is, and the latter as the largest and smallest that it has."""
    if isinstance(value, float):
        return value
    if isinstance(value, str | bytes | bytearray) or value is None:
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # numpy's and torch's scalars know how
    except OverflowError:  # an integer beyond a float's range
        return math.copysign(math.inf, 1 if value > 0 else -1)  # type: ignore[operator]
    except (TypeError, ValueError):
        return None


def text_of(value: object) -> str:
    """`value` as text for a parameter or a tag: without secrets, and without characters that a database refuses."""
    return visible(masked(str(value)))


def fitted(text: str, most: int) -> str:
    """`text` in at most `most` characters; one that is cut says how long it was, and ends in the hash of the whole."""
    if len(text) <= most:
        return text
    end = f" ... ({len(text):,} characters, sha256 {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]})"
    return text[: most - len(end)] + end


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names with text values, which are whole."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = text_of(value)
    return flat


def tags_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them; empty ones are left out."""
    return {key_of(key): fitted(text_of(value), TAG_CHARACTERS) for key, value in tags.items() if value != ""}


class Changes:
    """Maps names and values, and says once what was changed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._seen, self._news, self._lines = say, set[str](), list[str](), 0
        self._originals: dict[str, str] = {}

    def key(self, name: str) -> str:
        """The key of a parameter."""
        mapped = key_of(name)
        if mapped != name:
            self._changed(name, f"is {_short(mapped)}")
            self._originals[mapped] = fitted(text_of(name), TAG_CHARACTERS)
        return mapped

    def metric(self, name: str) -> str:
        """The key of a metric."""
        return name if metric_key(name) == name else self.key(metric_name(name))

    def param(self, name: str, text: str) -> str:
        """The value of the parameter `name`."""
        cut = fitted(text, PARAM_CHARACTERS)
        if cut != text:
            self._changed(f"{name}=", f"({len(text):,} characters) is cut to {PARAM_CHARACTERS:,}, and whole in params/")
        return cut

    def tags(self, tags: Mapping[str, str]) -> None:
        """Take note of those that `tags_of` cuts."""
        for key, value in tags.items():
            if len(value) > TAG_CHARACTERS:
                self._changed(f"{key}=", f"({len(value):,} characters) is cut to {TAG_CHARACTERS:,}")

    def number(self, name: str, value: object) -> float | None:
        """The value of the metric `name`."""
        found = number(value)
        if found is None:
            self.refused(name, f"is left out: {_short(repr(value))} is no number")
        return found

    def refused(self, name: str, why: str) -> None:
        """`name` was not recorded."""
        self._changed(name, why)

    def originals(self) -> dict[str, str]:
        """Names that were changed since the last call, by their keys."""
        found, self._originals = self._originals, {}
        return found

    def tell(self) -> None:
        """Say what is new, in one line."""
        if self._news and self._lines < _NEWS:
            self._lines += 1
            # What is missing first: a name that was changed is a smaller matter.
            news = sorted(self._news, key=lambda text: "left out" not in text)
            more = f"; and {len(news) - _LISTED} more" if len(news) > _LISTED else ""
            self._say(f"names and values that it does not take: {'; '.join(news[:_LISTED])}{more}")
        self._news.clear()

    def _changed(self, name: str, how: str) -> None:
        if name not in self._seen:
            self._seen.add(name)
            self._news.append(f"{_short(name)} {how}")


def _short(name: str) -> str:
    text = repr(visible(name))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...'"


def now_ms() -> int:
    return int(time.time() * 1000)
