"""What the taggers of dolma 1.2.1 say of documents: `python dolma_scores.py < documents.jsonl > scores.jsonl`, in an
environment of dolma's own. Imports nothing of Lehr."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from dolma.core.data_types import DocumentWithMetadata
from dolma.taggers.c4 import C4Tagger
from dolma.taggers.code.code_taggers import CodeStarCoderTaggers2
from dolma.taggers.gopher import GopherTaggerV2
from dolma.taggers.pii import FastPiiRegex
from dolma.taggers.repetitions.utils import find_periodic_sequences

TAGGERS = (GopherTaggerV2(), C4Tagger(), FastPiiRegex())
CODE = CodeStarCoderTaggers2()


def scores(row: dict[str, Any]) -> dict[str, float]:
    """One number for each kind of span: its score, or how many there are of kinds without scores."""
    extension = row["path"].rpartition(".")[2]
    about = {"ext": extension, "max_stars_count": row["stars"]}
    document = DocumentWithMetadata("shipped", row["id"], row["text"], metadata=about)
    found: dict[str, float] = {}
    for tagger in (*TAGGERS, *([CODE] if extension else [])):
        for span in tagger.predict(document).spans:
            counted = span.type.startswith(("has_", "lines_")) or span.type.isupper()
            if tagger is CODE or not counted:
                found[span.type] = float(span.score)
            else:
                found[span.type] = found.get(span.type, 0.0) + 1
    return found | {"repetitions": repetitions(row["text"])}


def repetitions(text: str) -> float:
    """dolma's search for a sequence over and over, in words: its own tokenizer comes from a hub."""
    numbers: dict[str, int] = {}
    words = np.array([numbers.setdefault(word, len(numbers)) for word in text.split()])
    if len(words) < 3:
        return 0.0
    return float(max((found.times for found in find_periodic_sequences(words, max_period=13)), default=0))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(scores(json.loads(line))))
