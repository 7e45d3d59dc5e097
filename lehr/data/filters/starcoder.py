"""OLMo 2's rules for StarCoder (section 2.4.1)."""

from __future__ import annotations

import numpy as np

from lehr.config.filters.repositories import StarcoderFilter
from lehr.data.document import Document
from lehr.data.filters.metadata import number
from lehr.data.filters.thresholds import verdict
from lehr.data.text import text_of
from lehr.data.verdict import Drop, Filter, Keep

_REASONS = {"stars": "too few stars", "top_word": "one word too often", "top_two_words": "two words too often"}


def make(config: StarcoderFilter) -> Filter:
    def starcoder(document: Document) -> Keep | Drop:
        stars = number(document, config.stars_key)
        if stars is None and config.min_stars is not None and config.missing == "drop":
            return Drop("stars not given")
        ids = text_of(document.text).ids
        counts = np.sort(np.unique(ids, return_counts=True)[1])
        scores = {} if stars is None else {"stars": stars}
        scores |= {"top_word": int(counts[-1:].sum()) / max(1, len(ids))}
        scores |= {"top_two_words": int(counts[-2:].sum()) / max(1, len(ids))}
        return verdict(config, scores, _REASONS)

    return starcoder
