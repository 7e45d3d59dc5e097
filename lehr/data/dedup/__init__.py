"""Documents that occur more than once.

A document is a number, in order of reading. `Signer` computes what is needed of each, in any process; `SignatureFile`
writes it; `Corpora.duplicates` finds what to drop, by global joins (`lehr.data.joins`) and true comparisons of texts;
`Paragraphs` takes repeated paragraphs out of what stays, in order.
"""

from __future__ import annotations

from lehr.data.dedup.corpus import DROPPED, REASONS, Corpora
from lehr.data.dedup.exact import Deduplicator
from lehr.data.dedup.files import SignatureFile, Signatures
from lehr.data.dedup.paragraphs import Paragraphs, paragraph_keys
from lehr.data.dedup.signer import Signer

__all__ = [
    "DROPPED",
    "REASONS",
    "Corpora",
    "Deduplicator",
    "Paragraphs",
    "SignatureFile",
    "Signatures",
    "Signer",
    "paragraph_keys",
]
