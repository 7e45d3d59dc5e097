"""Paragraphs that occurred before are taken out (as in Dolma, of which OLMo 1 was trained).

Dolma's tools take a line for a paragraph, replace one that occurred before by nothing, and leave the document. Ours
also drop a document of which too little is left. The result depends on the order of documents, so they pass in the
order of reading; the hashes can be computed beforehand, anywhere.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lehr.config.deduplication import RepeatedParagraphs
from lehr.data.dedup.bloom import Bloom
from lehr.data.dedup.shingles import normalised
from lehr.data.joins import U64

REASON = "repeated paragraphs"


def paragraph_keys(text: str, min_characters: int) -> U64:
    """A hash of each paragraph that counts, in order: lines with at least so many characters that are not white space at
    an end. Two that are equal up to case and white space have the same. Pure."""
    found = [paragraph_key(line) for line in text.split("\n") if _counts(line, min_characters)]
    return np.array(found, np.uint64)


class Paragraphs:
    """Remembers paragraphs."""

    def __init__(self, config: RepeatedParagraphs) -> None:
        self._config = config
        self._bloom = Bloom(config.expected, config.false_positives)
        self.seen = 0  # different paragraphs; beyond `expected` of them, more than `false_positives` of new ones are removed

    def pass_on(self, text: str, keys: U64 | None = None) -> tuple[str | None, int]:
        """The text without the paragraphs that occurred before, and how many those were; None for the text if the
        document is to be dropped. `keys` are those of `paragraph_keys`, where they are known."""
        keys = paragraph_keys(text, self._config.min_characters) if keys is None else keys
        known = self._bloom.add(keys)
        repeated = int(known.sum())
        self.seen += len(keys) - repeated
        if not repeated:
            return text, 0
        answers = iter(known.tolist())
        left = [line for line in text.split("\n") if not (_counts(line, self._config.min_characters) and next(answers))]
        kept, whole = (sum(len("".join(line.split())) for line in lines) for lines in (left, text.split("\n")))
        return (None if whole - kept >= self._config.drop_share * whole else "\n".join(left)), repeated


def _counts(line: str, min_characters: int) -> bool:
    return len(line.strip()) >= max(1, min_characters)


def paragraph_key(line: str) -> int:
    """64 bits of a line, the same for those that are equal up to case and white space."""
    return int.from_bytes(hashlib.sha256(normalised(line).encode("utf-8", "surrogatepass")).digest()[:8], "little")
