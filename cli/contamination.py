"""What `lehr eval` says of a score's examples that stand in training documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lehr.evals.flagged import Contamination


def contamination(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each task and split with examples that training documents hold; one line for all others of which the same is
    to be said, as one reads `scores.json`."""
    told: dict[str, dict[str, None]] = {}
    for record in records:
        if record.get("contamination"):
            known = Contamination.model_validate(record["contamination"])
            what = f"{record['task']}, {record['split']}"
            told.setdefault(_said(known, record["n"]), {})[what] = None
    for said, tasks in told.items():
        yield f"contamination of {'; '.join(tasks)}: {said}"


def _said(known: Contamination, n: int) -> str:
    others = f"; not compared: {', '.join(known.not_compared)}" if known.not_compared else ""
    if known.kept is None:
        return f"not known{others}"
    if not known.kept and not known.removed:
        return f"no example stands in training documents{others}"
    names = f" ({', '.join(known.documents[:3])}{', ...' if known.document_count > 3 else ''})" if known.documents else ""
    return f"{known.kept} of {n} examples stand in training documents, {known.removed} in removed ones alone{names}{others}"
