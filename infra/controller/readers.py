"""Readers of what pods, people and clocks wrote. It may have any shape, so each answers for bad text with "nothing".

They raise nothing, whatever they are given: an exception here would end the watch that met it, and any training pod can write
a last word.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from infra.codec import decode
from infra.views import CheckResult, Verdict

T = TypeVar("T")
NAME, REASON = 63, 128  # characters


def seconds(text: Any) -> float:
    """Unix time of an RFC 3339 time of the API; 0 for anything else."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def plain(text: Any, limit: int = 500) -> str:
    """What a pod wrote, as one printable line: nothing that moves a cursor, no half characters, no novel."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:limit]).strip()


def parsed(kind: type[T], text: str | None) -> T | None:
    """`text` as `kind`, None when it is absent or anything else."""
    try:
        return decode(kind, text) if text else None
    except ValueError:
        return None


def verdict_of(text: str | None) -> Verdict | None:
    """The verdict in a termination message, its texts short enough for annotations. Fields that are not ours are ignored: a
    verdict has no say in which node it is about."""
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
    """The JSON object in `text`, empty for anything else."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def whole(value: Any) -> int | None:
    """A whole number that is one in every JSON reader."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else None


def moment(value: Any) -> float:
    """Unix time, 0 for anything else: JSON has whole numbers that no float holds, and Python reads NaN."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e11 else 0.0
