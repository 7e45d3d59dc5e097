"""What deduplication needs to know of each document, computed from the document alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.data.dedup.exact import as_words, text_key, url_key
from lehr.data.dedup.minhash import band_keys, bands_for, signatures, sketches
from lehr.data.dedup.shingles import shingle_sets
from lehr.data.joins import U64

VERSION = 1  # of all hashes; a change makes earlier signatures useless


class Signer:
    """A pure function of documents, made from the configuration: it is called in any order, in any process.

    `dtype` is that of a document's record: `url` and `exact` keys (two words each), `bands` (a word each), `sketch` (a
    byte for each permutation), `shingles` (their number), `priority` (the larger, the better) -- those of them that the
    configuration needs."""

    def __init__(self, config: Deduplication) -> None:
        self.config, self.fuzzy = config, config.fuzzy
        fields: list[Any] = []
        if config.url:
            fields.append(("url", "<u8", (2,)))
        if config.exact:
            fields.append(("exact", "<u8", (2,)))
        if self.fuzzy:
            self.bands, self.rows = bands_for(self.fuzzy.threshold, self.fuzzy.permutations, self.fuzzy.recall)
            fields += [("priority", "<f8"), ("shingles", "<u4"), ("bands", "<u8", (self.bands,))]
            fields.append(("sketch", "u1", (self.fuzzy.permutations,)))
        self.dtype = np.dtype(fields)

    @property
    def method(self) -> dict[str, Any]:
        """What two corpora must have in common for their signatures to be compared."""
        fuzzy = self.fuzzy
        numbers = [fuzzy.shingle_words, fuzzy.permutations, self.bands, self.rows] if fuzzy else []
        return {"version": VERSION, "fields": json.loads(json.dumps(self.dtype.descr)), "minhash": numbers}

    def sign(self, texts: Sequence[str], urls: Sequence[str], scores: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Records of documents; `scores` are those of the filters. Both are looked at only where the configuration needs
        them."""
        found = np.zeros(len(texts), self.dtype)
        if self.config.url:
            found["url"] = as_words([url_key(url) for url in urls])
        if self.config.exact:
            found["exact"] = as_words([text_key(text) for text in texts])
        if self.fuzzy:
            minima, sizes = signatures(texts, self.fuzzy.shingle_words, self.fuzzy.permutations)
            found["shingles"] = np.minimum(sizes, 0xFFFFFFFF)
            found["bands"] = band_keys(minima, self.bands, self.rows)
            found["sketch"] = sketches(minima)
            found["priority"] = [_priority(self.fuzzy, text, score) for text, score in zip(texts, scores, strict=True)]
        return found

    def sets(self, texts: Sequence[str]) -> list[U64]:
        """The sets of shingles, for a later corpus that is held against this one."""
        return shingle_sets(texts, self.fuzzy.shingle_words) if self.fuzzy else []


def _priority(fuzzy: NearDuplicates, text: str, scores: Mapping[str, float]) -> float:
    """Of documents that are near-duplicates the one with the largest stays. One without a score comes last."""
    if fuzzy.keep == "first":
        return 0.0
    value = float(len(text)) if fuzzy.keep == "longest" else scores.get(fuzzy.score, math.nan)
    return value if math.isfinite(value) else -math.inf
