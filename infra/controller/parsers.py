"""Parsers for texts written by pods, people and clocks, which may have any shape: each parser returns "nothing" for bad text.

They never raise: an exception here would end the watch that met the text, and any training pod can write a termination
message.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from lehr.infra.fleet.policy import NAMES
from lehr.infra.fleet.serialization import decode
from lehr.infra.fleet.views import CheckResult, CordonRecord, HumanAct, NodeRecord, Verdict
from lehr.infra.kube.text import plain
from lehr.runtime.environment import digits

T = TypeVar("T")
NAME, REASON = 63, 128  # characters: the lengths of a Kubernetes label and of a condition's reason as we write them
MAX_CHARACTERS = 1 << 17  # of an annotation: the API server accepts 256 KiB for all of them, ours need a few KiB
MAX_ITEMS, MAX_TIME, MAX_WHOLE, MAX_ATTEMPT = 64, 1e11, 1 << 53, 1 << 31


def seconds(text: Any) -> float:
    """Unix time of an RFC 3339 time; 0 for anything else."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def parsed(kind: type[T], text: str | None) -> T | None:
    """`text` decoded as `kind`; None if it is absent or anything else."""
    try:
        return decode(kind, text) if text else None
    except ValueError:
        return None


def noted(kind: type[T], text: str | None) -> T | None:
    """As `parsed`, for an annotation of a node, with each value clamped to what we would have written: anybody who may annotate
    nodes can write any value, and later records are computed from it."""
    found = parsed(kind, text) if text and len(text) <= MAX_CHARACTERS else None
    return None if found is None else _within(found)


def record_of(text: str | None) -> NodeRecord | None:
    """The record in an annotation; None for anything else."""
    found = noted(NodeRecord, text)
    return found and replace(found, attempt=found.attempt % MAX_ATTEMPT)  # bounded, as it is part of a Job's name


def _within(value: Any) -> Any:
    """Texts cut to one short line, numbers to what JSON and clocks can represent, histories to their newest items."""
    if isinstance(value, bool | Enum) or value is None:
        return value
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, int):
        return min(max(value, 0), MAX_WHOLE - 1)
    if isinstance(value, float):
        return min(max(value, 0.0), MAX_TIME)
    if isinstance(value, tuple):
        return tuple(map(_within, value[-MAX_ITEMS:]))
    return replace(value, **{f.name: _within(getattr(value, f.name)) for f in dataclasses.fields(value)})


KINDS: Mapping[str, type[Any]] = {
    NAMES.record_annotation: NodeRecord,
    NAMES.cordon_annotation: CordonRecord,
    NAMES.hold_annotation: HumanAct,
    NAMES.override_annotation: HumanAct,
    NAMES.repaired_annotation: HumanAct,
}


def unreadable(annotations: Mapping[str, str]) -> Iterator[str]:
    """Names of our annotations on a node that cannot be decoded, and are ignored."""
    return (name for name, kind in KINDS.items() if annotations.get(name) and noted(kind, annotations[name]) is None)


def closed_breakers(annotations: Mapping[str, str]) -> dict[str, float]:
    """Breakers closed by a person, with the time, from the Lease's annotations. An unreadable annotation closes none."""
    acts = parsed(dict[str, HumanAct], annotations.get(NAMES.reset_annotation))
    return {key: act.at for key, act in acts.items()} if acts else {}


def verdict_of(text: str | None) -> Verdict | None:
    """The verdict in a termination message, with texts short enough for annotations. Unknown fields are ignored: a verdict must
    not be able to choose the node it is about."""
    found = parsed(Verdict, text)
    if found is None:
        return None
    results = tuple(_clipped(result) for result in found.results[:16])
    return replace(
        found,
        version=plain(found.version, NAME),
        check=plain(found.check, NAME),
        reason=plain(found.reason, REASON),
        detail=plain(found.detail),
        results=results,
    )


def _clipped(result: CheckResult) -> CheckResult:
    return replace(result, check=plain(result.check, NAME), reason=plain(result.reason, REASON), detail=plain(result.detail))


def progress(text: Any) -> dict[str, Any]:
    """The JSON object in `text`; empty for anything else."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def count(quantity: Any) -> int:
    """The integer in a quantity or an annotation; 0 for anything else."""
    return digits(str(quantity)) or 0


def whole(value: Any) -> int | None:
    """An integer that every JSON reader represents exactly, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_WHOLE else None


def moment(value: Any) -> float:
    """Unix time; 0 for anything else, such as integers beyond float's range and NaN, which Python's JSON reader accepts."""
    return float(value) if isinstance(value, int | float) and abs(value) < MAX_TIME else 0.0
