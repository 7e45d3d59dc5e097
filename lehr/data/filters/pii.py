"""Personal information: masked, and documents with much of it dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lehr.config.filters.pii import PiiFilter
from lehr.data.document import Document
from lehr.data.personal import find, masked
from lehr.data.verdict import Drop, Filter, Keep


def make(config: PiiFilter) -> Filter:
    def pii(document: Document) -> Keep | Drop:
        spans = find(document.text, config.find)
        counts = Counter(kind for _, _, kind in spans)
        scores = {f"pii.{kind}": float(counts[kind]) for kind in config.find} | {"pii.found": float(len(spans))}
        if config.max_found is not None and len(spans) > config.max_found:
            return Drop("personal information", scores)
        changed = replace(document, text=masked(document.text, spans)) if spans and config.mask else None
        return Keep(scores, changed)

    return pii
