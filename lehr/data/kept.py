"""The kept documents of a documents artifact."""

from __future__ import annotations

from collections.abc import Iterator

from lehr.artifact import Artifact
from lehr.data.document import Document, read_jsonl
from lehr.paths import joined


def kept(corpus: Artifact, source: str) -> Iterator[Document]:
    """The kept training documents of a source."""
    return read_jsonl(joined(corpus.expect("documents").path("documents"), source, ".jsonl.gz"), source)
