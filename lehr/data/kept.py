"""The kept documents of a documents artifact."""

from __future__ import annotations

from collections.abc import Iterator

from lehr.artifacts.artifact import Artifact
from lehr.data.document import Document, read_jsonl
from lehr.data.lines import LONGEST
from lehr.runtime.paths import joined


def kept(corpus: Artifact, source: str) -> Iterator[Document]:
    """The kept training documents of a source. Raises UserError as `read_jsonl` does."""
    path = joined(corpus.expect("documents").path("documents"), source, ".jsonl.gz")
    return read_jsonl(path, source, 2 * LONGEST)  # a line holds the id and source beside the text, and escapes lengthen it
