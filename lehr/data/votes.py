"""Majority votes over several answers to one question (OLMo 2 section 5): of a model's texts, or of programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def majority(results: Sequence[str]) -> str:
    """The result of more than half of all answers; empty if there is none. An empty result votes for nothing."""
    counted = Counter(filter(None, results)).most_common(1)
    return counted[0][0] if counted and 2 * counted[0][1] > len(results) else ""
