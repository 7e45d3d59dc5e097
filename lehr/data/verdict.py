"""What a filter says of a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lehr.data.document import Document

Scores = Mapping[str, float]  # by name: the numbers that thresholds are held against, such as `gopher_quality.symbols`


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the document, or what a filter made of it, such as the text with addresses masked."""

    scores: Scores = field(default_factory=dict)
    changed: Document | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop it. `reason` is one of few: reasons are counted; numbers belong into the scores."""

    reason: str
    scores: Scores = field(default_factory=dict)


class Filter(Protocol):
    """A function of the document and of nothing else: it is called in any order, in several processes."""

    def __call__(self, document: Document) -> Keep | Drop: ...
