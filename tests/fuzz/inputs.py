"""What people, disks and others' programs may put where a file of a known form is expected."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

HOSTILE = (
    "", " ", "no", "~", "null", "1e400", "nan", "-1", "0x", "1_0", "2020-13-45", "../../../escaped", "/etc/passwd", "a/b",
    "a\\b", ".", "..", "x" * 300, "s3://b/a//b", "gs://b", "a\nb", "\x7f", "\x1b[31mred", "[/bold]", "{0}", "%s", "$HOME",
    "=", "*a", "&a", "<<", "!!python/object:os.system", "lehr.runtime.seeds:NOTHING", ":f", "..up:f", "\u202eabc", "\U0001f98a",
    "\ufeff", "\u0130", "e\u0301",
)  # fmt: skip
NUMBERS: tuple[int | float, ...] = (0, -1, 1, 2, 3, 7, 2**31, 2**53 + 1, 2**63, 10**30, 10**400)
NUMBERS += (0.0, -0.5, 1e-45, 1e38, 1e300, float("nan"), float("inf"))
texts = st.sampled_from(HOSTILE) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@st.composite
def mutated_bytes(draw: st.DrawFn, raw: bytes, pieces: tuple[bytes, ...] = ()) -> bytes:
    """`raw` after up to three slips: cut off, a span left out, doubled or overwritten, a bit turned, one of `pieces` put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(raw) - 1)))
        end = min(len(raw), start + draw(st.sampled_from((1, 2, 8, 64, 1000))))
        kind = draw(st.sampled_from(("cut", "without", "twice", "overwritten", "turned", "put in")))
        if kind == "cut":
            raw = raw[:start]
        elif kind == "without":
            raw = raw[:start] + raw[end:]
        elif kind == "twice":
            raw = raw[:end] + raw[start:]
        elif kind == "overwritten":
            raw = raw[:start] + draw(st.binary(max_size=16)) + raw[end:]
        elif kind == "turned" and raw:
            raw = raw[:start] + bytes([raw[start] ^ 1 << draw(st.integers(0, 7))]) + raw[start + 1 :]
        elif pieces:
            raw = raw[:start] + draw(st.sampled_from(pieces)) + raw[start:]
    return raw


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, item in inner for spot in _spots(item, (*path, key)))]


@st.composite
def mutated_value(draw: st.DrawFn, value: Any) -> Any:
    """JSON data after one to three changes at any depth: another value, a key left out, renamed or added, one put in a list."""
    root = [json.loads(json.dumps(value))]
    for _ in range(draw(st.integers(1, 3))):
        spots = [spot for spot in _spots(root) if spot]
        spot = draw(st.sampled_from(spots))
        holder: Any = root
        for key in spot[:-1]:
            holder = holder[key]
        last = spot[-1]
        kind = draw(st.sampled_from(("value", "value", "without", "renamed", "added", "in a list", "number")))
        if kind == "without" and len(spot) > 1:
            del holder[last]
        elif kind == "renamed" and isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(last)
        elif kind == "added" and isinstance(holder[last], dict):
            holder[last][draw(texts)] = draw(values)
        elif kind == "in a list":
            holder[last] = [holder[last]]
        elif kind == "number" and isinstance(holder[last], int | float):
            holder[last] = draw(st.sampled_from(NUMBERS))
        else:
            holder[last] = draw(values)
    return root[0]


def dumped(value: Any) -> bytes:
    """JSON as Python writes it, NaN and half surrogate pairs as well."""
    return json.dumps(value).encode()


def safetensors_split(raw: bytes) -> tuple[Any, bytes]:
    """Header and body of a safetensors file."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def safetensors_joined(header: Any, body: bytes) -> bytes:
    text = dumped(header)
    return len(text).to_bytes(8, "little") + text + body
