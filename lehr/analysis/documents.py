"""What the filters made of documents: their scores, beside thresholds that are in force or might be."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lehr.artifacts.artifact import Artifact
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_rows

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # per cent
_REMEDY = "delete this artifact's folder and run the same command again"


class Judged(NamedTuple):
    """A document of a documents artifact. `reason` is "" if it was kept; of one that was dropped, `text` is its beginning."""

    id: str
    source: str
    reason: str
    text: str
    scores: dict[str, float]


class Distribution(NamedTuple):
    """A score over documents: how many have it, and its value at each of QUANTILES."""

    documents: int
    values: tuple[float, ...]


def judged(corpus: Artifact) -> Iterator[Judged]:
    """Every document that was read, kept or dropped: training documents by source, those held back, those dropped. Raises
    UserError where a file is damaged."""
    folder = corpus.expect("documents").folder
    kept = [*sorted((folder / "documents").glob("*.jsonl.gz")), folder / "dev.jsonl.gz", folder / "held_out.jsonl.gz"]
    for path in (*kept, folder / "dropped.jsonl.gz"):
        yield from _rows(path)


def _rows(path: Path) -> Iterator[Judged]:
    for row in read_rows(path, _REMEDY):
        scores = row.get("scores", {})
        if not isinstance(scores, dict):
            raise UserError("scores that are no table", where=path, remedy=_REMEDY)
        id_, source, reason, text = (str(row.get(key, "")) for key in ("id", "source", "reason", "text"))
        yield Judged(id_, source, reason, text, {str(k): float(v) for k, v in scores.items()})


def distributions(documents: Iterable[Judged], score: str) -> dict[str, Distribution]:
    """Source -> the distribution of `score`. Raises UserError if no document has it, with those that there are."""
    found: dict[str, list[float]] = {}
    known = set[str]()
    for document in documents:
        known |= document.scores.keys()
        if score in document.scores:
            found.setdefault(document.source, []).append(document.scores[score])
    if not found:
        raise _unknown(score, known)
    return {source: Distribution(len(v), tuple(np.percentile(v, QUANTILES).tolist())) for source, v in found.items()}


def nearest(documents: Iterable[Judged], score: str, threshold: float, rows: int) -> list[Judged]:
    """The `rows` documents whose `score` is nearest to `threshold`, in order of the score. Raises UserError if none has it."""
    known, order = set[str](), count()
    heap: list[tuple[float, int, Judged]] = []  # the farthest first; of equally far ones the later first
    for document in documents:
        known |= document.scores.keys()
        value = document.scores.get(score)
        if value is None:
            continue
        heapq.heappush(heap, (-abs(value - threshold), -next(order), document))
        if len(heap) > rows:
            heapq.heappop(heap)
    if not heap:
        raise _unknown(score, known)
    return sorted((document for _, _, document in heap), key=lambda d: (d.scores[score], d.id))


def _unknown(score: str, known: set[str]) -> UserError:
    said = ", ".join(sorted(known)) or "none: its filters give none"
    return UserError(f"no document has the score {score!r}", where="--score", remedy=f"scores are: {said}")
