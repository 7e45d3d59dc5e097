"""The kept documents of a documents artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.data.document import Document, read_jsonl
from lehr.data.lines import LONGEST
from lehr.runtime.paths import joined

FOLDER = "documents"


def kept_file(corpus: Artifact, source: str) -> Path:
    """The file with the kept training documents of a source."""
    return joined(corpus.expect("documents").path(FOLDER), source, ".jsonl.gz")


def kept(corpus: Artifact, source: str) -> Iterator[Document]:
    """The kept training documents of a source. Raises UserError as `read_jsonl` does."""
    return read_jsonl(kept_file(corpus, source), source, 2 * LONGEST)  # beside the text there are id and source, and escapes
